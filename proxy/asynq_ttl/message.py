"""Asynq's TaskMessage, as far as the sidecar reads it. Only importer of protobuf.

Source of the format: the field numbers of Asynq's protocol buffer definition (proto3). The definition below
names only what is used: what is not declared is not interpreted. Text fields are declared as bytes, which is the same
on the wire and cannot fail on bytes that are not UTF-8. The payload is looked into only for a trace context, and only
where somebody said at which path.
"""

import json
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from asynq_ttl.keyspace import text_of


class MessageError(ValueError):
    """The bytes are not a TaskMessage."""


class TaskMessage(NamedTuple):
    """What the sidecar needs to know of a task.

    `retention_seconds` is the task's Retention option (0 without). `traceparent` and `tracestate` are the
    producer's W3C trace context from the headers (Asynq v0.26 and later) or the payload, empty without.
    """

    type: str
    id: bytes
    queue: str
    retention_seconds: int
    traceparent: str
    tracestate: str


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


def _wire_class() -> Any:  # noqa: ANN401 - protobuf makes the class at run time, so it has no static type
    """Build the message class from the field numbers."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="asynq_ttl/task_message.proto", package="asynq_ttl")
    header = file.message_type.add(name="Header")
    for number, name in ((1, "key"), (2, "value")):
        header.field.add(name=name, number=number, type=kinds.TYPE_BYTES, label=kinds.LABEL_OPTIONAL)
    task = file.message_type.add(name="TaskMessage")
    for number, name, kind in (
        (1, "type", kinds.TYPE_BYTES),
        (2, "payload", kinds.TYPE_BYTES),
        (3, "id", kinds.TYPE_BYTES),
        (4, "queue", kinds.TYPE_BYTES),
        (12, "retention", kinds.TYPE_INT64),
    ):
        task.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    # A map is on the wire a repeated message of key and value.
    task.field.add(
        name="headers",
        number=15,
        type=kinds.TYPE_MESSAGE,
        type_name=".asynq_ttl.Header",
        label=kinds.LABEL_REPEATED,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("asynq_ttl.TaskMessage"))


_WIRE = _wire_class()
