"""Log lines for people and machines, and how often a warning comes."""

import json
import logging
from collections.abc import Iterator

import pytest

from asynq_ttl.telemetry import logs
from asynq_ttl.telemetry.logs import MOST_WARNINGS, HumanFormatter, JsonFormatter, Repetition, Sparing


def record(message: str, **extra: str) -> logging.LogRecord:
    """Return a record of the log."""
    made = logging.LogRecord("asynq_ttl.x", logging.WARNING, "", 0, message, None, None)
    vars(made).update(extra)
    return made


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, as it was afterwards."""
    names = ("", "asynq_ttl", "aiohttp", "asyncio", "urllib3")
    levels = {name: logging.getLogger(name).level for name in names}
    handlers = logging.getLogger().handlers[:]
    yield logging.getLogger()
    logging.getLogger().handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_a_line_for_people() -> None:
    """One line whatever the message, with the trace where there is one."""
    line = HumanFormatter().format(record("queue a\nb failed", trace_id="ff"))
    assert line.endswith(r"WARNING asynq_ttl.x: queue a\nb failed trace_id=ff")
    assert HumanFormatter().format(record("plain")).endswith("plain")


def test_a_line_for_machines() -> None:
    """A JSON object a line, exceptions included."""
    line = json.loads(JsonFormatter().format(record("x \udcff y", trace_id="ff")))
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "warning", "logger": "asynq_ttl.x", "message": "x � y", "trace_id": "ff"}
    failed = record("failed")
    error = ValueError("why")
    failed.exc_info = (ValueError, error, None)
    line = json.loads(JsonFormatter().format(failed))
    assert "ValueError: why" in line["exception"]
    assert "trace_id" not in line


def test_the_log_goes_to_standard_error(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """From the level on, in the format that is asked for; libraries only warn unless it is debugged."""
    logs.start_logging("info", "json")
    logging.getLogger("asynq_ttl.x").info("hello")
    logging.getLogger("asynq_ttl.x").debug("hidden")
    logging.getLogger("library").info("chatter")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines] == ["hello"]
    assert logs.level_in_force() == "info"
    logs.set_level("error")
    logging.getLogger("library").warning("not now")
    assert not capsys.readouterr().err
    logs.set_level("debug")
    logging.getLogger("library").debug("now")
    assert "now" in capsys.readouterr().err
    assert logs.level_in_force() == "debug"


def test_a_warning_is_not_repeated_too_often() -> None:
    """One of each kind every ten seconds; the next one says how many were held back."""
    now = 0.0
    repetition = Repetition(lambda: now)
    assert repetition.allows("a") == ""
    assert repetition.allows("b") == ""
    assert [repetition.allows("a") for _ in range(3)] == [None] * 3
    now = 10.0
    assert repetition.allows("a") == " (and 3 more since the last line)"
    assert repetition.allows("b") == ""


def test_a_library_is_not_heard_too_often() -> None:
    """Each logger and level by itself; the sidecar's own lines, and what is no warning, are not held back."""
    now = 0.0
    sparing = Sparing(lambda: now)
    library = [logging.LogRecord("lib.a", level, "", 0, "%d%%", (5,), None) for level in (30, 30, 40, 20, 20)]
    assert [sparing.filter(each) for each in library] == [True, False, True, True, True]
    assert all(sparing.filter(record("x")) for _ in range(3))
    now = 10.0
    assert sparing.filter(library[1])
    assert library[1].getMessage() == "5% (and 1 more since the last line)"
    now = 20.0
    assert sparing.filter(library[0])
    assert library[0].getMessage() == "5%"


def test_kinds_of_warnings_are_bounded() -> None:
    """Whoever makes up kinds neither fills the log nor grows the memory; what is held back is counted."""
    now = 0.0
    repetition = Repetition(lambda: now)
    allowed = [repetition.allows(str(number)) for number in range(2_500)]
    assert allowed == [""] * MOST_WARNINGS + [None] * (2_500 - MOST_WARNINGS)
    now = 10.0
    assert repetition.allows("new") == f" (and {2_500 - MOST_WARNINGS} more since the last line)"
    assert repetition.allows("newer") == ""
    for number in range(2_500):
        now += 10
        repetition.allows(str(number))
    assert len(repetition._last) <= 1_000
