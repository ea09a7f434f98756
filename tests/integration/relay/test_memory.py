"""What clients can make a sidecar hold, and what becomes of it when there is no more memory."""

import resource
import signal
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from asynq_ttl.wire.commands import encode
from support.asynq import Harness
from support.pressure import BEGINNING, CALL_BYTES, END, MIB, POLICY, clients_in_the_middle, load, memory_bytes
from support.servers import Server, SidecarFactory, start_redis, wait_until

CLIENTS = 40
MOST_MIB = 16
# One call after the other is worked on, which takes some copies of it; and each connection has a chunk. Without a bound
# it would be 160 MiB.
MOST_BYTES = (MOST_MIB + 40) * MIB + 4 * CALL_BYTES


def test_what_clients_make_it_hold_is_bounded_in_all(redis_server: Server, start_sidecar: SidecarFactory) -> None:
    """Past `--max-held-mib` large calls of scripts go on as they come: each is answered, and it is told."""
    sidecar = start_sidecar(redis_server.url, POLICY, max_held_mib=str(MOST_MIB))
    sidecar.expected_warnings.append(r"failed open \(size\)")
    before = memory_bytes(sidecar, "VmRSS")
    with clients_in_the_middle(sidecar, CLIENTS) as clients:
        assert "there is no room for more: see --max-held-mib" in sidecar.log()
        for client in clients:
            client.sendall(END)
            client.settimeout(10)
            assert client.recv(100) == b":7\r\n"
    assert memory_bytes(sidecar, "VmHWM") - before < MOST_BYTES


def test_what_waits_for_a_redis_that_takes_nothing_in_counts_too(start_sidecar: SidecarFactory) -> None:
    """A call that came whole waits in the sidecar while Redis stands still: others find less room."""
    with start_redis() as server:
        sidecar = start_sidecar(server.url, POLICY, max_held_mib=str(MOST_MIB))
        sidecar.expected_warnings += [r"failed open \(size\)", "is down", "cannot load a wrapper", "sweeping failed"]
        before = memory_bytes(sidecar, "VmRSS")
        with ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection(("127.0.0.1", sidecar.port))) for _ in range(CLIENTS)
            ]
            for client in clients:
                client.sendall(encode([b"PING"]))
                assert client.recv(100) == b"+PONG\r\n"
                client.settimeout(0.2)
            server.process.send_signal(signal.SIGSTOP)
            for client in clients:
                with suppress(TimeoutError):
                    client.sendall(BEGINNING + END)
            assert memory_bytes(sidecar, "VmHWM") - before < MOST_BYTES
            server.process.send_signal(signal.SIGCONT)


def test_what_a_client_sent_before_it_hung_up_reaches_redis(start_sidecar: SidecarFactory) -> None:
    """However much of it still waits in the sidecar."""
    with start_redis() as server:
        sidecar = start_sidecar(server.url, POLICY)
        sidecar.expected_warnings += ["is down", "cannot load a wrapper", "sweeping failed"]
        server.process.send_signal(signal.SIGSTOP)
        sizes = [number * MIB // 4 for number in range(10)]
        for number, size in enumerate(sizes):
            with socket.create_connection(("127.0.0.1", sidecar.port)) as client:
                client.sendall(encode([b"SET", b"key-%d" % number, b"x" * size]))
        server.process.send_signal(signal.SIGCONT)
        with server.client() as client:
            wait_until(lambda: client.dbsize() == len(sizes), "something is lost")
            assert [client.strlen(f"key-{number}") for number in range(len(sizes))] == sizes


@pytest.mark.timeout(180)
def test_a_sidecar_that_runs_out_of_memory(
    redis_server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """Nothing more can be allocated, several times, under load: connections close, and every task comes to its end."""
    # More than there is: the bound is not what helps here.
    sidecar = start_sidecar(redis_server.url, POLICY, max_held_mib="100000")
    sidecar.expected_warnings += [
        "Traceback",
        "Fatal error",
        "MemoryError",  # a connection, or whatever else asks for memory at that moment
        "failed open",
        "sweeping failed",
        "is down",
    ]
    with load(sidecar, harness, redis_server, tmp_path / "ids"):
        for _ in range(3):
            assert sidecar.process is not None
            most = memory_bytes(sidecar, "VmSize") + 100 * MIB
            resource.prlimit(sidecar.process.pid, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
            with clients_in_the_middle(sidecar, 60):
                time.sleep(0.3)
            assert "MemoryError" in sidecar.log()
            if sidecar.process.poll() is not None:
                sidecar.start()
        endless = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        assert sidecar.process is not None
        resource.prlimit(sidecar.process.pid, resource.RLIMIT_AS, endless)
