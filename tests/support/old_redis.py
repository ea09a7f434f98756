"""A server of a few lines that refuses what a test says: as a Redis that is too old does, which nobody can install."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer

NO_SUCH_COMMAND = b"-ERR unknown command `X`, with args beginning with: \r\n"
REDIS_5 = {
    "HELLO": NO_SUCH_COMMAND,
    "CLIENT SETINFO": b"-ERR Unknown subcommand or wrong number of arguments for 'SETINFO'. Try CLIENT HELP\r\n",
    "INFO": b"$22\r\nredis_version:5.0.14\r\n\r\n",
}
"""What a Redis 5 answers otherwise than a newer one."""


class _Server(ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextmanager
def speaking(answers: Mapping[str, bytes] | None = None) -> Iterator[tuple[int, list[str]]]:
    """Run a server that answers PONG to PING and OK to the rest; yield its port, and the commands that it gets.

    Args:
        answers: what it answers otherwise, by the command, or by the command and its first argument.
    """
    given, said = answers or {}, list[str]()

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int(self.rfile.readline()[1:])
                    words.append(self.rfile.read(size + 2)[:-2].decode())
                said.append(" ".join(words))
                name = words[0].upper()
                usual = b"+PONG\r\n" if name == "PING" else b"+OK\r\n"
                self.wfile.write(given.get(" ".join(words[:2]).upper(), given.get(name, usual)))

    with _Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1], said
        finally:
            server.shutdown()
            thread.join()
