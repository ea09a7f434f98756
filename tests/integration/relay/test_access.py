"""Credentials: whose they are, where they go, and that they are nowhere to be read."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py

from asynq_ttl.wire.commands import encode
from support.asynq import Harness
from support.servers import Server, Sidecar, SidecarFactory, connect, start_redis, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 1h}}]"
SECRET = "k0rnblume"


@pytest.fixture
def closed_server() -> Iterator[Server]:
    """A Redis with a password, and a user who may do what Asynq and the sidecar need."""
    with start_redis("--requirepass", SECRET) as server, connect(port=server.port, password=SECRET) as client:
        client.execute_command("ACL", "SETUSER", "asynq", "on", f">{SECRET}-2", "~asynq*", "&*", "+@all")
        yield server


def raw(sidecar: Sidecar, *commands: list[bytes]) -> bytes:
    """Send commands one after the other, and QUIT after them; return the answers to the commands."""
    with socket.create_connection(("127.0.0.1", sidecar.port)) as connection:
        connection.settimeout(10)
        connection.sendall(b"".join(map(encode, [*commands, [b"QUIT"]])))
        answer = b""
        while data := connection.recv(65_536):
            answer += data
        given, farewell = answer[:-5], answer[-5:]
        assert farewell == b"+OK\r\n"
        return given


def test_credentials_pass_through_and_are_not_to_be_read(
    closed_server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """AUTH and HELLO AUTH, right and wrong: Redis answers; neither the log at debug level nor spans hold any."""
    url = f"redis://asynq:{SECRET}-2@127.0.0.1:{closed_server.port}/0"
    sidecar = start_sidecar(url, POLICY, log_level="debug", OTEL_TRACES_EXPORTER="console")
    assert raw(sidecar, [b"AUTH", b"wrong-sesame"], [b"PING"]).count(b"-") >= 2
    assert b"-WRONGPASS" in raw(sidecar, [b"HELLO", b"3", b"AUTH", b"default", b"wrong-sesame"])
    assert raw(sidecar, [b"AUTH", SECRET.encode()], [b"PING"]) == b"+OK\r\n+PONG\r\n"
    hello = raw(sidecar, [b"HELLO", b"3", b"AUTH", b"asynq", f"{SECRET}-2".encode()], [b"ACL", b"WHOAMI"])
    assert hello.startswith(b"%")
    assert hello.endswith(b"$5\r\nasynq\r\n")
    process = harness.start("demo", sidecar.address, "-username", "asynq", "-password", f"{SECRET}-2")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    sidecar.stop()
    for text in (sidecar.log(), sidecar.output()):
        assert "asynq_ttl" in text
        assert SECRET not in text
        assert "wrong-sesame" not in text


@pytest.mark.parametrize("by_file", [True, False])
def test_the_sidecar_holds_the_credentials(
    closed_server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path, by_file: bool
) -> None:
    """Clients need none: real Asynq works, in RESP3 too; the password may come from a file, which may change."""
    file = tmp_path / "password"
    file.write_text(f"{SECRET}-2\n")
    if by_file:
        url = f"redis://asynq@127.0.0.1:{closed_server.port}/0"
        options = {"upstream_password_file": str(file)}
    else:
        url, options = f"redis://asynq:{SECRET}-2@127.0.0.1:{closed_server.port}/0", {}
    sidecar = start_sidecar(url, POLICY, client_auth="none", **options)
    with sidecar.client(protocol=3) as client:
        assert client.execute_command("ACL WHOAMI") == b"asynq"
    harness.enqueue(sidecar.address, {"type": "mail", "payload": '{"do": "skip"}', "id": "a"})
    harness.work(sidecar.address)
    with connect(port=closed_server.port, password=SECRET) as direct:
        assert 3000 < direct.ttl("asynq:{default}:t:a") <= 3660
        direct.flushall()
    assert SECRET not in sidecar.log()
    if by_file:
        file.write_text("no longer")
        with sidecar.client() as client, pytest.raises(redis_py.RedisError, match="own login failed: WRONGPASS"):
            client.ping()


def test_a_password_of_the_sidecars_own(
    closed_server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """Without it nothing reaches Redis; with it real Asynq works, and never learns the password of Redis."""
    file = tmp_path / "passwords"
    file.write_text("sesame\n")
    url = f"redis://asynq:{SECRET}-2@127.0.0.1:{closed_server.port}/0"
    options = {"client_auth": "password", "client_password_file": str(file)}
    sidecar = start_sidecar(url, POLICY, **options)
    sidecar.expected_warnings.append("not let in: a client has shown a wrong password")
    assert raw(sidecar, [b"SET", b"asynq:x", b"1"]) == b"-NOAUTH Authentication required.\r\n"
    assert raw(sidecar, [b"AUTH", SECRET.encode()]).startswith(b"-WRONGPASS")
    assert raw(sidecar, [b"AUTH", b"sesame"], [b"ACL", b"WHOAMI"]) == b"+OK\r\n$5\r\nasynq\r\n"
    who = raw(sidecar, *([[b"AUTH", b"sesame"], [b"RESET"], [b"PING"]] * 2), [b"AUTH", b"sesame"], [b"ACL", b"WHOAMI"])
    assert who.count(b"-NOAUTH") == 2
    assert who.count(b"+OK") == 3
    assert who.endswith(b"$5\r\nasynq\r\n")
    hello = raw(sidecar, [b"AUTH", b"sesame"], [b"HELLO", b"3", b"AUTH", b"default", b"sesame"], [b"ACL", b"WHOAMI"])
    assert hello.endswith(b"$5\r\nasynq\r\n")
    assert raw(sidecar, [b"AUTH", b"sesame"], [b"AUTH", SECRET.encode()], [b"ACL", b"WHOAMI"]).endswith(b"default\r\n")
    for protocol in (2, 3):
        with connect(port=sidecar.port, password="sesame", protocol=protocol) as client:
            assert client.set("asynq:x", b"y" * 2_000_000)
            assert client.get("asynq:x") == b"y" * 2_000_000
    load = harness.start("load", sidecar.address, "-password", "sesame", "-tasks", "300", "-archive-share", "0.5")
    output, errors = load.communicate(timeout=60)
    assert not json.loads(output)["timed_out"], errors
    with connect(port=closed_server.port, password=SECRET) as direct:
        archived = direct.zrange("asynq:{load}:archived", 0, 0)[0].decode()
        assert direct.ttl(f"asynq:{{load}}:t:{archived}") > 0
        direct.flushall()
    assert "sesame" not in sidecar.log()
    assert SECRET not in sidecar.log()


def test_unknown_clients_are_few_and_do_not_stay(
    closed_server: Server, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """No more than the limit may wait, and each only for a while; no upstream connection is opened for them."""
    file = tmp_path / "passwords"
    file.write_text("sesame\n")
    url = f"redis://:{SECRET}@127.0.0.1:{closed_server.port}/0"
    options = {"client_auth": "password", "client_password_file": str(file), "max_connections": "2"}
    sidecar = start_sidecar(url, **options)
    wait_until(lambda: "is up" in sidecar.log(), "it does not come up")
    with connect(port=closed_server.port, password=SECRET) as direct:
        before, started = direct.info("clients")["connected_clients"], time.monotonic()
        waiting = [socket.create_connection(("127.0.0.1", sidecar.port)) for _ in range(2)]
        time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", sidecar.port)) as third:
            third.settimeout(60)
            with contextlib.suppress(ConnectionResetError):
                assert third.recv(10) == b""
        assert direct.info("clients")["connected_clients"] == before
    waiting[0].settimeout(60)
    with contextlib.suppress(ConnectionResetError):
        assert waiting[0].recv(10) == b""
    assert time.monotonic() - started > 5
    for connection in waiting:
        connection.close()
    with connect(port=sidecar.port, password="sesame") as client:
        assert client.ping()


def test_a_password_before_a_redis_that_asks_for_none(
    redis_server: Server, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """It may be shown again and again."""
    file = tmp_path / "passwords"
    file.write_text("sesame\n")
    sidecar = start_sidecar(redis_server.url, client_auth="password", client_password_file=str(file))
    assert raw(sidecar, *([[b"AUTH", b"sesame"], [b"PING"]] * 2)) == b"+OK\r\n+PONG\r\n" * 2
    assert raw(sidecar, [b"AUTH", b"sesame"], [b"RESET"], [b"PING"]) == b"+OK\r\n+RESET\r\n+PONG\r\n"
