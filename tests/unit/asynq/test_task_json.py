from dataclasses import replace

from asynq_ttl.asynq.hold import Hold
from asynq_ttl.asynq.message import TaskRecord
from asynq_ttl.asynq.task import Task
from asynq_ttl.asynq.task_json import raw_line, task_line

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


def test_what_is_not_text_is_encoded() -> None:
    """Bytes that are not UTF-8 are base64 whatever was asked for, and so are all where text was not asked for."""
    task = Task("q", b"id", "completed", record=RECORD, ttl_ms=-1, result=b"\xff")
    line = task_line(task, RECORD._replace(payload=b"\xfe"), text=True)
    assert (line["payload_base64"], line["result_base64"]) == ("/g==", "/w==")
    assert "payload" not in line
    assert "result" not in line


def test_what_a_task_does_not_have_is_not_told() -> None:
    """One for ever has no TTL; of a result only its size may be known; an orphan is in no index."""
    line = task_line(Task("q", b"id", "completed", record=RECORD, result=7), RECORD, text=True)
    assert (line["ttl_seconds"], line["in_index"], line["deadline"]) == (None, False, None)
    assert line["completed_at"] == "1970-01-01T00:33:20Z"
    assert not any(name.startswith("result") for name in line)


def test_a_held_task_says_since_when() -> None:
    """Another one says nothing of that."""
    task = Task("q", b"id", "archived", record=RECORD, score=b"5", hold=Hold(b"x", b"3000", None, 60))
    line = task_line(task, RECORD, text=True)
    assert (line["held_since"], line["died_at"]) == ("1970-01-01T00:01:00Z", "1970-01-01T00:50:00Z")
    assert "held_since" not in task_line(replace(task, hold=None), RECORD, text=True)


def test_a_message_that_cannot_be_read_is_told_as_it_is() -> None:
    """In base64."""
    line = raw_line(Task("q", b"id", "archived"), b"{}")
    assert line == {"queue": "q", "id": "id", "state": "archived", "message_base64": "e30="}
