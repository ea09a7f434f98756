"""How protobuf reads a TaskMessage: all of it, or what decides about a command."""

import subprocess
import sys

import pytest

from asynq_ttl.asynq.protobuf_message import ROUTING, WHOLE, DecodeError
from support.task_message import encode_task


def test_the_short_definition_reads_what_the_whole_one_reads() -> None:
    """Of the fields that it has."""
    data = encode_task("a", "b", "c", 5, payload=b"p", completed_at=6, headers={"x": "y"})
    short, whole = ROUTING.FromString(data), WHOLE.FromString(data)
    for field in ROUTING.DESCRIPTOR.fields:
        assert str(getattr(short, field.name)) == str(getattr(whole, field.name))
    assert whole.completed_at == 6
    with pytest.raises(DecodeError):
        WHOLE.FromString(data[:-1])


@pytest.mark.compiled
def test_messages_of_asynq_do_not_need_it() -> None:
    """With a trace context or without: protobuf is not imported beside a worker."""
    messages = [encode_task("a", "b", "c", 5), encode_task("a", headers={"traceparent": "x"})]
    code = (
        "import sys; from asynq_ttl.asynq import message\n"
        f"for data in {messages!r}: message.decode(data)\n"
        "assert 'google.protobuf' not in sys.modules\n"
        "message.decode_record(data)\n"
        "assert 'google.protobuf' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
