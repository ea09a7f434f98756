"""Work that goes on beside a test."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def under_load(work: Callable[[int], Any], threads: int = 3) -> Iterator[list[str]]:
    """Let threads work while the block runs; yields what goes wrong."""
    stop, wrong = threading.Event(), list[str]()

    def run(number: int) -> None:
        while not stop.is_set():
            try:
                work(number)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told
                wrong.append(repr(error))

    with ExitStack() as stack:
        for number in range(threads):
            thread = threading.Thread(target=run, args=(number,))
            thread.start()
            stack.callback(thread.join)
        stack.callback(stop.set)
        yield wrong
