"""Clients that connect without a pause, to see whether any is refused."""

import socket
import threading
from typing import Self

PING = b"*1\r\n$4\r\nPING\r\n"


class Caller:
    """Three clients that connect, ask and hang up, again and again; it remembers what went wrong."""

    def __init__(self, port: int) -> None:
        self.calls = 0
        self.problems: list[str] = []
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=10) as connection:
                    connection.sendall(PING)
                    answer = connection.recv(1000)
                if answer != b"+PONG\r\n":
                    self.problems.append(repr(answer))
            except OSError as error:
                self.problems.append(repr(error))
            self.calls += 1
