import importlib
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asynq_ttl.asynq import message
from asynq_ttl.asynq.message import MessageError, TaskMessage, decode, decode_record, scheduler_entry_id
from support.task_message import encode_task
from support.uncompiled import uncompiled

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXTS, TEXTS, TEXTS, st.integers(-(2**63), 2**63 - 1), st.binary())
def test_what_is_needed_of_a_message_is_read(
    task_type: str, task_id: str, queue: str, retention: int, payload: bytes
) -> None:
    """Type, ID, queue and retention come out as they went in; absent ones are empty."""
    data = encode_task(task_type, task_id, queue, retention, payload=payload)
    assert decode(data) == TaskMessage(task_type, task_id.encode(), queue, retention, "", "")


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
def test_the_producer_s_trace_context_is_read_from_the_headers(name: str) -> None:
    """Header names count in any case; other headers are ignored."""
    headers = {"x": "y", name: "00-1-2-01", "tracestate": "a=b"}
    found = decode(encode_task("a", headers=headers))
    assert (found.traceparent, found.tracestate) == ("00-1-2-01", "a=b")


def test_unknown_fields_are_passed_over() -> None:
    """A field of a later Asynq of any wire type does not matter."""
    later = b"\xa0\x06\x07" + b"\xa2\x06\x03abc" + b"\xa5\x06abcd" + b"\xa1\x06abcdefgh"
    assert decode(later + encode_task("a") + later) == decode(encode_task("a"))


NUMBERS = [0, 1, 127, 128, 2**31, 2**63 - 1, 2**63, 2**64 - 1]


def field_of(field: int, kind: int, content: bytes) -> bytes:
    """Return a field with a value of a kind, right or wrong."""
    tag = varint_of(field << 3 | kind)
    if kind == 0:
        return tag + varint_of(NUMBERS[len(content) % len(NUMBERS)])
    return tag + (varint_of(len(content)) + content if kind == 2 else content)


def varint_of(number: int) -> bytes:
    """Return a number as it is on the wire."""
    groups = [number >> shift & 127 for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes(group | 128 for group in groups[:-1]) + bytes(groups[-1:])


FIELDS = st.builds(
    field_of,
    st.sampled_from([0, 1, 2, 3, 4, 5, 11, 12, 13, 15, 16, 100]),
    st.integers(0, 7),
    st.one_of(st.binary(max_size=9), st.sampled_from(["name", "é"]).map(str.encode)),
)
# The parts of a header, which may be missing, come twice, or be no such thing.
HEADER_PARTS = st.builds(
    field_of,
    st.sampled_from([1, 1, 2, 2, 3]),
    st.sampled_from([2, 2, 2, 0]),
    st.sampled_from([b"traceparent", b"TraceParent", b"tracestate", b"tracestat\xc9", b"x", b""])
    | st.binary(max_size=9),
)
HEADERS = st.lists(HEADER_PARTS, max_size=3).map(lambda parts: field_of(15, 2, b"".join(parts)))


PLAIN = uncompiled(message, "asynq_ttl.asynq._message")
assert PLAIN._routing is None


def by_protobuf(data: bytes) -> tuple[object, ...] | None:
    """Decode a message as where nothing is compiled; None for what is none."""
    with suppress(PLAIN.MessageError):
        return tuple(PLAIN.decode(data))
    return None


@given(st.lists(FIELDS | HEADERS, max_size=8).map(b"".join), st.integers(0, 40))
@example(b"\x0a\x81\x00a", 40)
@example(b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01a", 40)
@example(b"\x8a\x80\x00\x01a", 40)
@example(b"\x60\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 40)
@example(b"\x60\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 40)
@example(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7fa", 40)
@example(b"", 0)
def test_compiled_or_not_a_message_is_read_alike(data: bytes, cut: int) -> None:
    """What is not plain is left to protobuf; where both answer, they say the same."""
    for piece in (data, data[:cut]):
        expected = by_protobuf(piece)
        if expected is None:
            with pytest.raises(MessageError):
                decode(piece)
        else:
            assert decode(piece) == expected


@pytest.mark.compiled
def test_messages_of_asynq_are_read_by_the_compiled_part() -> None:
    """All of them, with headers too; it has to be built here."""
    routing = importlib.import_module("asynq_ttl.asynq._message").routing
    assert routing(encode_task("a", "b", "c", 5, completed_at=6)) == ("a", b"b", "c", 5, "", "")
    headers = {"x": "y", "TraceParent": "p", "tracestate": "s"}
    assert routing(encode_task("a", headers=headers)) == ("a", b"id", "q", 0, "p", "s")
    with pytest.raises(TypeError):
        routing("a")


def test_bytes_that_are_not_utf_8_are_kept() -> None:
    """A type that is not text is read all the same."""
    assert decode(b"\x0a\x02a\xff").type == "a\udcff"


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x05abc", b"\xff" * 20, b"{}", encode_task("a")[:-1]])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    """Truncated or foreign bytes raise one error, whatever is wrong with them."""
    with pytest.raises(MessageError):
        decode(data)


@given(st.binary(max_size=60))
def test_garbage_is_a_message_or_refused(data: bytes) -> None:
    """No bytes raise anything else."""
    with suppress(MessageError):
        decode(data)


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NO_TRACE = {
    "no JSON": b"{",
    "no object": b"[1]",
    "no text": b'{"meta": {"traceparent": 1, "tracestate": null}}',
    "no member": b'{"meta": {}}',
    "no object on the way": b'{"meta": "x"}',
    "nested too deep": b"[" * 60_000,
    "too large": b'{"x": "%b", "meta": {"traceparent": "%b"}}' % (b"x" * 70_000, PARENT.encode()),
    "not UTF-8": b"\xff\xfe\x00",
}


def test_the_producer_s_trace_context_is_read_from_the_payload() -> None:
    """At the path that was given, with its companion beside it; headers come first."""
    payload = b'{"meta": {"traceparent": "%b", "tracestate": "a=b"}}' % PARENT.encode()
    path = ("meta", "traceparent")
    found = decode(encode_task("a", payload=payload), path)
    assert (found.traceparent, found.tracestate) == (PARENT, "a=b")
    assert decode(encode_task("a", payload=payload)).traceparent == ""
    assert (
        decode(encode_task("a", payload=payload, headers={"traceparent": "00-1-2-01"}), path).traceparent == "00-1-2-01"
    )


@pytest.mark.parametrize("payload", NO_TRACE.values(), ids=NO_TRACE)
def test_a_payload_without_a_trace_context_is_no_fault(payload: bytes) -> None:
    """Whatever the payload is, the task is what it is."""
    found = decode(encode_task("a", payload=payload), ("meta", "traceparent"))
    assert (found.type, found.traceparent, found.tracestate) == ("a", "", "")


@given(TEXTS, st.binary(), st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_whole_message_is_read(task_type: str, payload: bytes, failed: int, completed: int) -> None:
    """For the tools: everything that is in it."""
    data = encode_task(
        task_type,
        "id",
        "q",
        60,
        payload=payload,
        unique_key=b"lock",
        last_failed_at=failed,
        completed_at=completed,
        headers={"a": "b"},
    )
    found = decode_record(data)
    assert (found.type, found.payload, found.id, found.queue) == (task_type, payload, b"id", "q")
    assert (found.last_failed_at, found.completed_at, found.retention) == (failed, completed, 60)
    assert (found.unique_key, found.headers, found.error, found.group) == (b"lock", {"a": "b"}, "", "")


def test_what_is_no_whole_message_is_refused() -> None:
    """With the same error."""
    with pytest.raises(MessageError):
        decode_record(b"\x0a\x05abc")


def test_the_id_of_a_scheduler_entry() -> None:
    """Its first field; empty where the bytes are none."""
    assert scheduler_entry_id(b"\n\x05alive\x12\x09@every 1s\x1a\x01x") == b"alive"
    assert scheduler_entry_id(b"\xff") == b""
