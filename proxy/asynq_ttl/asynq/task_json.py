"""A terminal task as one JSON object: what `export` writes and what a sink of the sweeper receives. Pure."""

from base64 import b64encode
from typing import Any

from asynq_ttl.asynq.keys import text_of
from asynq_ttl.asynq.message import TaskRecord
from asynq_ttl.asynq.task import Task, ended_at
from asynq_ttl.times import moment

Json = dict[str, Any]


def task_line(task: Task, record: TaskRecord, *, text: bool) -> Json:
    """Return a task as JSON.

    Args:
        task: the task, read whole.
        record: its message.
        text: give payload and result as text where they are UTF-8; else, and where they are not, as base64.
    """
    line: Json = {
        "queue": task.queue,
        "id": text_of(task.id),
        "type": record.type,
        "state": task.state,
        "in_index": task.score is not None,
        f"{'died' if task.state == 'archived' else 'completed'}_at": moment(ended_at(task)),
        **_content("payload", record.payload, text=text),
        "error": record.error,
        "retried": record.retried,
        "max_retry": record.retry,
        "last_failed_at": moment(record.last_failed_at),
        "timeout_seconds": record.timeout,
        "deadline": moment(record.deadline),
        "retention_seconds": record.retention,
        "unique_key": text_of(record.unique_key),
        "group": record.group,
        "headers": record.headers,
        "ttl_seconds": None if task.ttl_ms < 0 else task.ttl_ms // 1000,
    }
    if task.hold is not None:
        line["held_since"] = moment(task.hold.since)
    if isinstance(task.result, bytes) and task.result:
        line |= _content("result", task.result, text=text)
    return line


def raw_line(task: Task, message: bytes) -> Json:
    """Return a task whose message cannot be read as JSON: the message as it is."""
    encoded = b64encode(message).decode()
    return {"queue": task.queue, "id": text_of(task.id), "state": task.state, "message_base64": encoded}


def _content(name: str, content: bytes, *, text: bool) -> Json:
    """Return bytes under their name, or under `<name>_base64` where they are encoded."""
    if text:
        try:
            return {name: content.decode()}
        except UnicodeDecodeError:
            pass
    return {f"{name}_base64": b64encode(content).decode()}
