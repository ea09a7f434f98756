import pytest

from asynq_ttl.asynq.message import TaskRecord
from asynq_ttl.asynq.task import Task, since
from asynq_ttl.asynq.task_json import task_line

RECORD = TaskRecord(
    type="mail",
    payload=b"hello",
    id=b"id",
    queue="q",
    retry=25,
    retried=3,
    error="why",
    timeout=1800,
    deadline=0,
    unique_key=b"lock",
    last_failed_at=1000,
    retention=60,
    completed_at=2000,
    group="g",
    headers={"a": "b"},
)


def test_every_field_is_there() -> None:
    """A line has all that the message has, and where the task was."""
    task = Task("q", b"id\xff", "archived", record=RECORD, size=9, score=b"3000", ttl_ms=5500, result=b"res")
    assert task_line(task, RECORD, text=True) == {
        "queue": "q",
        "id": "id\udcff",
        "type": "mail",
        "state": "archived",
        "in_index": True,
        "died_at": "1970-01-01T00:50:00Z",
        "payload": "hello",
        "error": "why",
        "retried": 3,
        "max_retry": 25,
        "last_failed_at": "1970-01-01T00:16:40Z",
        "timeout_seconds": 1800,
        "deadline": None,
        "retention_seconds": 60,
        "unique_key": "lock",
        "group": "g",
        "headers": {"a": "b"},
        "ttl_seconds": 5,
        "result": "res",
    }
    assert task_line(task, RECORD, text=False)["payload_base64"] == "aGVsbG8="


@pytest.mark.parametrize(
    ("state", "score", "seconds"),
    [("archived", b"3000", 3000), ("archived", None, 1000), ("completed", b"9000", 2000), ("completed", None, 2000)],
)
def test_the_time_of_a_task(state: str, score: bytes | None, seconds: int) -> None:
    """Its score if it is archived, else what the message says."""
    assert since(Task("q", b"id", state, score=score), RECORD) == seconds
