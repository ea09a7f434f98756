"""Memory pressure on a sidecar that carries a load of Asynq: who makes it hold much, and what came of the tasks."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import redis as redis_py

from support.asynq import Harness
from support.servers import Server, Sidecar, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 1h}}]"
MIB = 1024 * 1024
CALL_BYTES = 4 * MIB
# All of a call of a script but its last bytes.
BEGINNING = b"*4\r\n$4\r\nEVAL\r\n$8\r\nreturn 7\r\n$1\r\n0\r\n$%d\r\n" % CALL_BYTES + b"x" * (CALL_BYTES - 100)
END = b"x" * 100 + b"\r\n"


def memory_bytes(sidecar: Sidecar, what: str) -> int:
    """Return a figure of the sidecar's process: `VmRSS`, `VmHWM` (the most RSS so far) or `VmSize`."""
    assert sidecar.process is not None
    status = Path(f"/proc/{sidecar.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(what)).split()[1]) * 1024


@contextmanager
def clients_in_the_middle(sidecar: Sidecar, count: int) -> Iterator[list[socket.socket]]:
    """Connect clients, each of which sends a large call of a script but for its end, as far as it is taken."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            with suppress(OSError):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", sidecar.port)))
                connection.settimeout(2)
                found.append(connection)
                connection.sendall(BEGINNING)
        yield found


@contextmanager
def load(sidecar: Sidecar, harness: Harness, server: Server, accepted: Path) -> Iterator[None]:
    """Run a load while the block does what it does to the sidecar; then see to it that every task came to its end.

    Args:
        sidecar: the sidecar, with `POLICY`; it must be there at the end.
        harness: real Asynq.
        server: the Redis behind it, empty.
        accepted: a file for the IDs that were accepted.
    """
    options = ("-tasks", "3000", "-producers", "4", "-rate", "500", "-concurrency", "10", "-ids", str(accepted))
    ends = ("-archive-share", "0.2", "-retain-share", "0.3", "-give-up", "60s", "-timeout", "120s")
    process = harness.start("load", sidecar.address, *options, *ends)
    try:
        wait_until(lambda: accepted.exists() and accepted.read_text().count("\n") > 100, "there is no load")
        yield
        with server.client() as client:
            wait_until(lambda: settled(client, accepted), "tasks wait for ever", 90)
    finally:
        process.kill()
        process.communicate()
    ids = set(accepted.read_text().split())
    assert len(ids) > 1000
    with server.client() as client:
        left = {}
        for key in client.scan_iter("asynq:{load}:t:*", count=1000):
            left[key.decode().rpartition(":t:")[2]] = (client.hget(key, "state"), client.ttl(key))
        # A worker whose connection was closed before it had its task: Asynq runs it again when its lease is over.
        active = {name.decode() for name in client.zrange("asynq:{load}:lease", 0, -1)}
    assert active == {name for name, (state, _) in left.items() if state == b"active"}
    ended = {name: value for name, value in left.items() if name not in active}
    assert ended.keys() <= ids
    assert {state for state, _ in ended.values()} == {b"archived", b"completed"}
    assert all(3000 < ttl <= 3660 for _, ttl in ended.values())
    assert 0.4 < len(ended) / len(ids) < 0.6


def settled(client: "redis_py.Redis", accepted: Path) -> bool:
    """Say whether all is enqueued, and nothing has been waiting for two seconds."""
    before = accepted.read_text().count("\n")
    time.sleep(2)
    waiting = client.llen("asynq:{load}:pending") + client.zcard("asynq:{load}:retry")
    return accepted.read_text().count("\n") == before and not waiting
