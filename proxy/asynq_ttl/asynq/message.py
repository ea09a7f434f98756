"""Asynq's TaskMessage, as far as the sidecar reads it.

What decides about a command on its way through is read by a compiled part. What that leaves, and what only the tools
read, is read by protobuf (`protobuf_message`).

Invariants:

* A payload is not looked into, except for a trace context at the path that somebody gave.
* Protobuf is imported when something is first left to it: it takes three megabytes beside every worker, and a sidecar
  in front of Asynq's own clients never needs it.
"""

import functools
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from asynq_ttl.asynq.keys import text_of

try:
    from asynq_ttl.asynq._message import routing as _routing
except ImportError:  # there was no C compiler when this was installed: protobuf reads every message
    _routing = None  # type: ignore[assignment] # a function, or none


_Plain = tuple[str, bytes, str, int, str, str]


def _not_here(_data: bytes) -> _Plain | None:
    """Leave it to protobuf."""
    return None


plain: Callable[[bytes], _Plain | None] = _routing if _routing is not None else _not_here
"""Return the parts of a `TaskMessage`, if the bytes are one in its plainest form and that can be told here."""


class MessageError(ValueError):
    """The bytes are not a TaskMessage."""


class TaskMessage(NamedTuple):
    """What the sidecar needs to know of a task.

    Attributes:
        type: the task's type.
        id: its ID.
        queue: the queue it was enqueued in.
        retention_seconds: its Retention option; 0 without.
        traceparent: the producer's W3C trace context from the headers (Asynq v0.26 and later) or from the payload;
            empty without.
        tracestate: its companion.
    """

    type: str
    id: bytes
    queue: str
    retention_seconds: int
    traceparent: str
    tracestate: str


UNREADABLE = TaskMessage("", b"", "", 0, "", "")
"""What is known of a task whose message cannot be read."""


class TaskRecord(NamedTuple):
    """A whole TaskMessage. Times are Unix seconds, 0 where they are not set; `timeout` and `retention` are seconds."""

    type: str
    payload: bytes
    id: bytes
    queue: str
    retry: int
    retried: int
    error: str
    timeout: int
    deadline: int
    unique_key: bytes
    last_failed_at: int
    retention: int
    completed_at: int
    group: str
    headers: dict[str, str]


# Larger payloads are not searched for a trace context.
MAX_SEARCHED_BYTES = 64 * 1024


def decode(data: bytes, trace_path: tuple[str, ...] = ()) -> TaskMessage:
    """Decode an encoded TaskMessage.

    Args:
        data: the message.
        trace_path: the members of a JSON payload that lead to a `traceparent`, for tasks without that header; a
            `tracestate` is looked for beside it. Empty for nowhere.

    Raises:
        MessageError: the bytes are no protocol buffer of this shape.
    """
    if not trace_path:
        told = plain(data)
        if told is not None:
            return TaskMessage(*told)
    wire = _decoded(data, whole=False)
    traceparent = tracestate = ""
    if wire.headers:
        headers = {header.key.lower(): header.value for header in wire.headers}
        traceparent = text_of(headers.get(b"traceparent", b""))
        tracestate = text_of(headers.get(b"tracestate", b""))
    if trace_path and not traceparent:
        traceparent, tracestate = _trace_in(wire.payload, trace_path)
    return TaskMessage(text_of(wire.type), wire.id, text_of(wire.queue), wire.retention, traceparent, tracestate)


def _trace_in(payload: bytes, path: tuple[str, ...]) -> tuple[str, str]:
    """Return the trace context in a JSON payload; empty where there is none."""
    if len(payload) > MAX_SEARCHED_BYTES:
        return "", ""
    try:
        parent: Any = json.loads(payload)
        for name in path[:-1]:
            parent = parent[name]
        found = [parent.get(name, "") for name in (path[-1], "tracestate")]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "", ""
    traceparent, tracestate = (text if isinstance(text, str) else "" for text in found)
    return traceparent, tracestate


def decode_record(data: bytes) -> TaskRecord:
    """Decode the whole of an encoded TaskMessage.

    Raises:
        MessageError: the bytes are no protocol buffer of this shape.
    """
    wire = _decoded(data, whole=True)
    return TaskRecord(
        type=text_of(wire.type),
        payload=wire.payload,
        id=wire.id,
        queue=text_of(wire.queue),
        retry=wire.retry,
        retried=wire.retried,
        error=text_of(wire.error_msg),
        timeout=wire.timeout,
        deadline=wire.deadline,
        unique_key=wire.unique_key,
        last_failed_at=wire.last_failed_at,
        retention=wire.retention,
        completed_at=wire.completed_at,
        group=text_of(wire.group_key),
        headers={text_of(header.key): text_of(header.value) for header in wire.headers},
    )


def scheduler_entry_id(data: bytes) -> bytes:
    """Return the ID of an encoded SchedulerEntry, its field 1; empty where the bytes are none."""
    try:
        return bytes(_decoded(data, whole=False).type)
    except MessageError:
        return b""


def _decoded(data: bytes, *, whole: bool) -> Any:  # noqa: ANN401 - protobuf makes the class at run time
    """Return what protobuf reads: every field, or those by which a command on its way through is decided.

    Raises:
        MessageError: the bytes are no protocol buffer of this shape.
    """
    protobuf = _protobuf()
    try:
        return (protobuf.WHOLE if whole else protobuf.ROUTING).FromString(data)
    except protobuf.DecodeError as error:
        raise MessageError(str(error)) from None


@functools.cache
def _protobuf() -> ModuleType:
    from asynq_ttl.asynq import protobuf_message  # noqa: PLC0415 - see the invariants

    return protobuf_message
