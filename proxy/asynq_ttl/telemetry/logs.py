"""The log: lines for people or JSON for machines, on standard error; and how often a warning may be repeated.

Never in a line: a payload, a credential, an argument. What belongs to a trace names it: give `trace_id` as `extra`.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable

from asynq_ttl.asynq.keys import printable
from asynq_ttl.telemetry.redaction import Redaction
from asynq_ttl.times import rfc3339

WARNING_INTERVAL_SECONDS = 10.0
# Warnings of all kinds in that time.
MOST_WARNINGS = 30
LEVELS = ("debug", "info", "warning", "error")
# Kinds of warnings that are told apart; there are about a dozen.
_MAX_KEYS = 1_000


class HumanFormatter(logging.Formatter):
    """A line with the time, the level, who says it and what; and the trace, where there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line."""
        line = printable(super().formatMessage(record)).replace("\r", "\\r").replace("\n", "\\n")
        trace_id = getattr(record, "trace_id", "")
        return f"{line} trace_id={trace_id}" if trace_id else line


class JsonFormatter(logging.Formatter):
    """A JSON object a line: `time`, `level`, `logger`, `message`, and `trace_id` and `exception` where there are."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": rfc3339(record.created, "milliseconds", "+00:00"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": printable(record.getMessage()),
        }
        if trace_id := getattr(record, "trace_id", ""):
            line["trace_id"] = trace_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class Sparing(logging.Filter):
    """Lets what a library warns of through as `Repetition` does, each logger and level by itself; the rest is counted.

    An exporter whose collector is down says so at each attempt, several times a second.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._repetition = Repetition(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record is logged."""
        if record.levelno < logging.WARNING or record.name.startswith("asynq_ttl"):
            return True
        more = self._repetition.allows(f"{record.name} {record.levelname}")
        if more:
            vars(record).update(msg=record.getMessage() + more, args=None)
        return more is not None


def start_logging(level: str, form: str) -> None:
    """Send the log to standard error.

    Args:
        level: the least level that is logged: debug, info, warning or error.
        form: human or json.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Redaction(JsonFormatter() if form == "json" else HumanFormatter(), os.environ))
    handler.addFilter(Sparing())
    logging.getLogger().addHandler(handler)
    set_level(level)


def set_level(level: str) -> None:
    """Log from this level up. What libraries say below a warning is only shown while debugging."""
    logging.getLogger("asynq_ttl").setLevel(level.upper())
    logging.getLogger().setLevel(logging.DEBUG if level == "debug" else max(logging.WARNING, _number(level)))
    # Debug lines of these are one or more for each file event, HTTP call or timer.
    for name in ("aiohttp", "asyncio", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)


def level_in_force() -> str:
    """Return the level from which the sidecar logs."""
    return logging.getLevelName(logging.getLogger("asynq_ttl").getEffectiveLevel()).lower()


class Repetition:
    """Lets a warning of each kind through at most every few seconds, and counts the ones it holds back.

    Whoever makes up kinds, as one who generates scripts, neither fills the log nor grows the memory.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}
        self._held: dict[str, int] = {}
        # How many lines there were since a moment, and how many more there would have been.
        self._since, self._lines, self._others = clock(), 0, 0

    def allows(self, kind: str) -> str | None:
        """Return what to add to a warning of this kind that may be logged now; None where it may not."""
        now = self._clock()
        if now - self._last.get(kind, -WARNING_INTERVAL_SECONDS) < WARNING_INTERVAL_SECONDS:
            self._held[kind] = self._held.get(kind, 0) + 1
            return None
        if now - self._since >= WARNING_INTERVAL_SECONDS:
            self._since, self._lines = now, 0
        if self._lines >= MOST_WARNINGS:
            self._others += 1
            return None
        self._lines += 1
        if len(self._last) >= _MAX_KEYS:
            self._last.clear()
            self._held.clear()
        self._last[kind] = now
        held, self._others = self._held.pop(kind, 0) + self._others, 0
        return f" (and {held} more since the last line)" if held else ""


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]
