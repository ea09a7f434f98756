"""A clock of a process that a test can set: libfaketime, of the PyPI package of that name."""

from pathlib import Path

import libfaketime


class Clock:
    """The wall clock of the processes that are started with its environment; the monotonic one goes on as it is.

    Args:
        file: where it keeps how far it is off.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump("+0")
        library = next(Path(libfaketime.__file__).parent.rglob("libfaketime.so.1"))
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        """What a process is started with."""

    def jump(self, offset: str) -> None:
        """Set it to so much before or after the real time: "+2h", "-1d"."""
        # Replaced as a whole, since it is read at any moment.
        fresh = self._file.with_suffix(".new")
        fresh.write_text(offset)
        fresh.replace(self._file)
