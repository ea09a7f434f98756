"""Records what real Asynq and a real Redis say to each other, as a corpus. The repository holds none."""

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path

from asynq_ttl.demo.harness import build_harness
from support.asynq import Harness
from support.servers import start_redis

# Longer ones only make the fuzzer slow.
_MAX_BYTES = 8192


def record(folder: Path) -> int:
    """Run Asynq through a recorder in front of Redis; leave each chunk in a file. Return how many."""
    sent, received = folder / "commands", folder / "replies"
    for path in (sent, received):
        path.mkdir(parents=True, exist_ok=True)
    with start_redis() as server, _recorder(server.port, sent, received) as port, Harness(build_harness()) as harness:
        address = f"127.0.0.1:{port}"
        harness.enqueue(
            address,
            {"type": "mail:a", "payload": '{"do": "ok"}', "retention": "1h", "headers": {"traceparent": "x"}},
            {"type": "mail:b", "payload": '{"do": "skip"}', "unique": "1h"},
            {"type": "mail:c", "payload": '{"do": "fail"}', "max_retry": 0, "repeat": 5},
        )
        harness.work(address)
        harness.enqueue(address, {"type": "mail:d", "process_in": "1h"})
        harness.inspect(address, {"op": "queues"})
    return sum(1 for path in (sent, received) for _ in path.iterdir())


@contextmanager
def _recorder(upstream: int, sent: Path, received: Path) -> Iterator[int]:
    """Relay connections to a port and write down every chunk."""

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", upstream)) as server:
                ways = {self.request: (server, sent), server: (self.request, received)}
                while True:
                    for source in select.select(list(ways), [], [])[0]:
                        sink, folder = ways[source]
                        data = source.recv(65_536)
                        if not data:
                            return
                        sample = b"\x10" + data[:_MAX_BYTES]
                        (folder / sha1(sample, usedforsecurity=False).hexdigest()).write_bytes(sample)
                        sink.sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as recorder:
        thread = threading.Thread(target=recorder.serve_forever)
        thread.start()
        try:
            yield int(recorder.server_address[1])
        finally:
            recorder.shutdown()
            thread.join()
