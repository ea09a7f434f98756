from typing import Any

import pytest

from asynq_ttl.asynq.message import TaskRecord, decode_record
from asynq_ttl.asynq.task import Task, ended_at, seconds_of, task_of_row
from support.task_message import encode_task

MESSAGE = encode_task("mail", "id", "q", 60, last_failed_at=1000, completed_at=2000)
RECORD = decode_record(MESSAGE)
NO_TIMES = RECORD._replace(last_failed_at=0, completed_at=0)


def row(**changes: Any) -> list[Any]:
    """Return a row as Redis answers with it, with some of its elements changed."""
    found: dict[str, Any] = {
        "state": b"archived",
        "msg": MESSAGE,
        "size": len(MESSAGE),
        "left": 5000,
        "score": b"3000",
        "held": 1,
        "result": 7,
        "digest": b"abc",
        "pending": b"",
    }
    return list((found | changes).values())


def test_a_row_is_a_task() -> None:
    """Everything that it tells is there."""
    assert task_of_row("q", b"id", row()) == Task(
        "q",
        b"id",
        "archived",
        record=RECORD,
        size=len(MESSAGE),
        ttl_ms=5000,
        score=b"3000",
        locked=True,
        result=7,
        digest=b"abc",
    )
    assert task_of_row("q", b"id", row()).type == "mail"


def test_a_task_is_pending_since_nanoseconds() -> None:
    """Redis has them as text; a task that is not pending has none."""
    assert task_of_row("q", b"id", row(pending=b"1700000000123456789")).pending_since == 1_700_000_000
    assert task_of_row("q", b"id", row(pending=b"")).pending_since == 0
    assert task_of_row("q", b"id", row(pending=b"soon")).pending_since == 0


def test_what_is_not_there_has_no_ttl_and_what_is_no_hash_is_no_task() -> None:
    """An empty row says that the key is gone; one element says that something else is there."""
    assert task_of_row("q", b"id", []) == Task("q", b"id", "", exists=False, ttl_ms=-2)
    assert task_of_row("q", b"id", ["no hash"]) == Task("q", b"id", "", exists=False, wrong=(b"asynq:{q}:t:id",))


@pytest.mark.parametrize("message", [None, b"\x0a\x05abc"])
def test_a_task_without_a_readable_message_has_no_type(message: bytes | None) -> None:
    """It is a task all the same."""
    task = task_of_row("q", b"id", row(msg=message))
    assert (task.exists, task.record, task.type) == (True, None, "")


@pytest.mark.parametrize(
    ("score", "seconds"),
    [(b"1700000000", 1_700_000_000), (b"1.5", 1), (b"-3", -3), (b"inf", 2**53), (b"-inf", -(2**53)), (b"1e300", 2**53)],
)
def test_a_score_in_whole_seconds(score: bytes, seconds: int) -> None:
    """Redis may hold any double there; no clock gets as far as the limit."""
    assert seconds_of(score) == seconds


@pytest.mark.parametrize(
    ("state", "score", "record", "ended"),
    [
        ("archived", b"3000", RECORD, 3000),
        ("archived", None, RECORD, 1000),
        ("archived", None, NO_TIMES, 0),
        ("archived", None, None, 0),
        ("archived", b"3000", None, 3000),
        ("archived", b"0", RECORD, 0),
        ("archived", b"-5", RECORD, 0),
        ("completed", b"9000", RECORD, 2000),
        ("completed", None, RECORD, 2000),
        ("completed", b"0", RECORD, 2000),
        ("completed", b"9000", NO_TIMES, 8940),
        ("completed", b"0", NO_TIMES, 0),
        ("completed", None, NO_TIMES, 0),
        ("completed", b"9000", None, 9000),
        ("completed", None, None, 0),
    ],
)
def test_when_a_task_ended(state: str, score: bytes | None, record: TaskRecord | None, ended: int) -> None:
    """Dead: its score, or the last failure of one in no index. Completed: what its message says, or its score tells."""
    assert ended_at(Task("q", b"id", state, record=record, score=score)) == ended


@pytest.mark.parametrize(
    ("score", "wrong", "nowhere"), [(None, (), True), (b"3000", (), False), (None, (b"asynq:{q}:archived",), False)]
)
def test_a_task_without_a_score_is_nowhere_only_where_that_is_certain(
    score: bytes | None, wrong: tuple[bytes, ...], *, nowhere: bool
) -> None:
    """Of an index that cannot be read nobody knows what is in it."""
    assert Task("q", b"id", "archived", score=score, wrong=wrong).nowhere is nowhere
