"""When the demo says that a TTL is right, and how it shows what it found."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from asynq_ttl.asynq.keys import TASK_PATTERN
from asynq_ttl.asynq.message import decode
from asynq_ttl.demo.demo import Row, _expected, _print_spans, _rows, _spans, _table
from asynq_ttl.policy_file.load import parse_policy
from support.task_message import encode_task

HOUR, DAY = 3_600, 86_400
POLICY = parse_policy(
    """
version: 1
grace: 60s
rules:
  - {name: noise, match: {type: "ping:*"}, archived: {ttl: forever}}
  - {name: default, archived: {ttl: 1h}, completed: {ttl: keep}}
""",
    "demo.yaml",
)


@pytest.mark.parametrize(
    ("lowest", "highest", "expected", "right"),
    [
        (100, 160, (100, 160), True),
        (99, 160, (100, 160), False),
        (100, 161, (100, 160), False),
        (None, 150, (100, 160), False),
        (None, None, (100, 160), False),
        (None, None, None, True),
        (None, 150, None, False),
        (150, 150, None, False),
    ],
)
def test_what_is_right(lowest: int | None, highest: int | None, expected: tuple[int, int] | None, right: bool) -> None:
    """Every TTL is within retention and grace, or there is none at all where there should be none."""
    assert Row("q", "archived", "t", 2, lowest, highest, expected).right is right


@pytest.mark.parametrize(
    ("task_type", "state", "expected"),
    [
        ("job:a", "archived", (HOUR, HOUR + 60)),
        ("job:a", "completed", (2 * DAY, 2 * DAY + 60)),
        ("ping:a", "archived", None),
        ("job:a", "pending", None),
    ],
)
def test_what_the_policy_wants(task_type: str, state: str, expected: tuple[int, int] | None) -> None:
    """The rule's time, or the task's own where it says keep; none for ever, and none for a task that lives."""
    assert _expected(POLICY, "q", state, decode(encode_task(task_type, retention_seconds=2 * DAY))) == expected


class Keys:
    """A Redis with some tasks: by key, the hash and the TTL."""

    def __init__(self, keys: dict[bytes, tuple[dict[bytes, bytes], int]]) -> None:
        self._keys = keys

    def scan_iter(self, *, match: bytes, count: int) -> Iterator[bytes]:
        """Yield the keys."""
        assert match == TASK_PATTERN
        return iter(self._keys)

    def hgetall(self, key: bytes) -> dict[bytes, bytes]:
        """Return a hash."""
        return self._keys[key][0]

    def ttl(self, key: bytes) -> int:
        """Return a TTL."""
        return self._keys[key][1]


def test_tasks_are_told_apart_by_what_is_expected_of_them() -> None:
    """One row for those of a queue, state and type, with the range of their TTLs."""

    def hash_of(task_type: str, state: bytes, retention: int = 0) -> dict[bytes, bytes]:
        return {b"msg": encode_task(task_type, retention_seconds=retention), b"state": state}

    found: Any = Keys(
        {
            b"asynq:{q}:t:1": (hash_of("job:a", b"archived"), 3_650),
            b"asynq:{q}:t:2": (hash_of("job:a", b"archived"), 3_600),
            b"asynq:{q}:t:3": (hash_of("job:b", b"completed", 100), 100),
            b"asynq:{q}:t:4": (hash_of("job:b", b"completed", 200), -1),
            b"asynq:{p}:t:5": (hash_of("job:a", b"pending"), -1),
        }
    )
    rows = {(row.queue, row.type, row.expected): row for row in _rows(found, POLICY)}
    first = rows["q", "job:a", (HOUR, HOUR + 60)]
    assert (first.count, first.lowest, first.highest, first.right) == (2, 3_600, 3_650, True)
    assert rows["q", "job:b", (100, 160)].right
    assert not rows["q", "job:b", (200, 260)].right
    assert rows["p", "job:a", None].right


def shown(what: Any) -> str:
    """Return what a terminal shows."""
    console = Console(file=io.StringIO(), width=120)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_says_what_is_wrong() -> None:
    """Beside what the policy says."""
    text = shown(_table([Row("q", "archived", "t", 1_000, 3_600, 3_660, (HOUR, HOUR + 60))]))
    assert "3,600 to 3,660 s" in text
    assert "1h + grace" in text
    assert "right" in text
    text = shown(_table([Row("q", "archived", "t", 2, None, 5, None), Row("q", "pending", "t", 2, None, None, None)]))
    assert "some none, some 5 s" in text
    assert "no TTL" in text
    assert "wrong" in text


def test_spans_are_read_one_after_the_other() -> None:
    """As the console exporter writes them, whatever stands between."""
    assert list(_spans('{"a": 1}\n{"b": {"c": 2}}\n')) == [{"a": 1}, {"b": {"c": 2}}]
    assert list(_spans("")) == []


def span(name: str, **attributes: str) -> dict[str, Any]:
    """Return a span."""
    links = [{"context": {"trace_id": "0xabc"}}]
    return {"name": name, "start_time": "noon", "attributes": attributes, "links": links}


def test_one_span_of_each_kind_is_shown() -> None:
    """All are counted by their action; those of the sidecar's own work are not shown."""
    decided = [span(f"archive {n}", **{"asynq_ttl.action": "ttl", "asynq_ttl.rule": "r"}) for n in range(3)]
    console = Console(file=io.StringIO(), width=120)
    _print_spans(console, [*decided, span("done q", **{"asynq_ttl.action": "keep"}), span("reload")])
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "4 spans, by action: 1 keep, 3 ttl. Besides, 1 of the sidecar's own work." in text
    assert ("archive 0" in text, "archive 1" in text, "done q" in text) == (True, False, True)
    assert "asynq_ttl.rule = r" in text
    assert "link to the producer's trace 0xabc" in text
