"""Asynq's TaskMessage, as far as the sidecar reads it. Only importer of protobuf.

Source of the format: the field numbers of Asynq's protocol buffer definition (proto3). The message is defined twice
below. The short definition has only the fields by which a command on its way through is decided; protobuf passes over
the others. The whole one is for the tools. Text fields are declared as bytes, which is the same on the wire and cannot
fail on bytes that are not UTF-8.

Invariant: a payload is not looked into, except for a trace context at the path that somebody gave.
"""

import json
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from asynq_ttl.asynq.keys import text_of

try:
    from asynq_ttl.asynq._message import routing as _routing
except ImportError:  # there was no C compiler when this was installed: protobuf reads every message
    _routing = None  # type: ignore[assignment] # a function, or none


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
    if _routing is not None and not trace_path:
        plain = _routing(data)
        if plain is not None:
            return TaskMessage(*plain, "", "")
    try:
        wire = _WIRE.FromString(data)
    except DecodeError as error:
        raise MessageError(str(error)) from None
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
    try:
        wire = _WHOLE_WIRE.FromString(data)
    except DecodeError as error:
        raise MessageError(str(error)) from None
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


_BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
_INT32 = descriptor_pb2.FieldDescriptorProto.TYPE_INT32
_INT64 = descriptor_pb2.FieldDescriptorProto.TYPE_INT64
_ROUTING = (
    (1, "type", _BYTES),
    (2, "payload", _BYTES),
    (3, "id", _BYTES),
    (4, "queue", _BYTES),
    (12, "retention", _INT64),
)
_WHOLE = (
    *_ROUTING,
    (5, "retry", _INT32),
    (6, "retried", _INT32),
    (7, "error_msg", _BYTES),
    (8, "timeout", _INT64),
    (9, "deadline", _INT64),
    (10, "unique_key", _BYTES),
    (11, "last_failed_at", _INT64),
    (13, "completed_at", _INT64),
    (14, "group_key", _BYTES),
)


def _wire_class(package: str, fields: tuple[tuple[int, str, Any], ...]) -> Any:  # noqa: ANN401 - protobuf makes the class at run time, so it has no static type
    """Build a message class from field numbers, names and kinds; the headers are always there."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}/task_message.proto", package=package)
    header = file.message_type.add(name="Header")
    for number, name in ((1, "key"), (2, "value")):
        header.field.add(name=name, number=number, type=kinds.TYPE_BYTES, label=kinds.LABEL_OPTIONAL)
    task = file.message_type.add(name="TaskMessage")
    for number, name, kind in fields:
        task.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    # A map is on the wire a repeated message of key and value.
    task.field.add(
        name="headers",
        number=15,
        type=kinds.TYPE_MESSAGE,
        type_name=f".{package}.Header",
        label=kinds.LABEL_REPEATED,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.TaskMessage"))


_WIRE = _wire_class("asynq_ttl", _ROUTING)
_WHOLE_WIRE = _wire_class("asynq_ttl_whole", _WHOLE)


def scheduler_entry_id(data: bytes) -> bytes:
    """Return the ID of an encoded SchedulerEntry, its field 1; empty where the bytes are none."""
    try:
        return bytes(_WIRE.FromString(data).type)
    except DecodeError:
        return b""
