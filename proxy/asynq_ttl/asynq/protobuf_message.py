"""Asynq's TaskMessage as protobuf reads it. Only importer of protobuf; `message` alone imports this, when it has to.

Source of the format: the field numbers of Asynq's protocol buffer definition (proto3). The message is defined twice.
`ROUTING` has only the fields by which a command on its way through is decided; protobuf passes over the others. `WHOLE`
is for the tools. Text fields are declared as bytes, which is the same on the wire and cannot fail on bytes that are not
UTF-8.
"""

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

__all__ = ["ROUTING", "WHOLE", "DecodeError"]

_BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
_INT32 = descriptor_pb2.FieldDescriptorProto.TYPE_INT32
_INT64 = descriptor_pb2.FieldDescriptorProto.TYPE_INT64
_ROUTING_FIELDS = (
    (1, "type", _BYTES),
    (2, "payload", _BYTES),
    (3, "id", _BYTES),
    (4, "queue", _BYTES),
    (12, "retention", _INT64),
)
_WHOLE_FIELDS = (
    *_ROUTING_FIELDS,
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


ROUTING: Final[Any] = _wire_class("asynq_ttl", _ROUTING_FIELDS)
WHOLE: Final[Any] = _wire_class("asynq_ttl_whole", _WHOLE_FIELDS)
