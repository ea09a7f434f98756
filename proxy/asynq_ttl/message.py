"""Asynq's TaskMessage, as far as the sidecar reads it. Only importer of protobuf.

Source of the format: the field numbers of Asynq's protocol buffer definition (proto3). The definition below
names only what is used and leaves out the payload: what is not declared is not interpreted. Text fields are
declared as bytes, which is the same on the wire and cannot fail on bytes that are not UTF-8.
"""

from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from asynq_ttl.keyspace import text_of


class MessageError(ValueError):
    """The bytes are not a TaskMessage."""


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """What the sidecar needs to know of a task.

    `retention_seconds` is the task's Retention option (0 without). `traceparent` and `tracestate` are the
    producer's W3C trace context from the headers (Asynq v0.26 and later), empty without.
    """

    type: str
    id: bytes
    queue: str
    retention_seconds: int
    traceparent: str
    tracestate: str


def decode(data: bytes) -> TaskMessage:
    """Decode an encoded TaskMessage.

    Raises:
        MessageError: the bytes are no protocol buffer of this shape.
    """
    try:
        wire = _WIRE.FromString(data)
    except DecodeError as error:
        raise MessageError(str(error)) from None
    headers = {header.key.lower(): header.value for header in wire.headers}
    return TaskMessage(
        type=text_of(wire.type),
        id=wire.id,
        queue=text_of(wire.queue),
        retention_seconds=wire.retention,
        traceparent=text_of(headers.get(b"traceparent", b"")),
        tracestate=text_of(headers.get(b"tracestate", b"")),
    )


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
