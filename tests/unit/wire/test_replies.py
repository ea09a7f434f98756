from collections.abc import Iterator

import pytest

from asynq_ttl.wire.replies import ReplyCounter


def chunks(data: bytes, step: int) -> Iterator[bytes]:
    """Cut bytes into pieces of the same size."""
    return (data[at : at + step] for at in range(0, len(data), step))


REPLIES = {
    "simple string": b"+OK\r\n",
    "empty simple string": b"+\r\n",
    "error": b"-ERR no\r\n",
    "integer": b":-5\r\n",
    "bulk string": b"$4\r\n\r\n+x\r\n",
    "empty bulk string": b"$0\r\n\r\n",
    "null bulk string": b"$-1\r\n",
    "array": b"*2\r\n$1\r\na\r\n:1\r\n",
    "empty array": b"*0\r\n",
    "null array": b"*-1\r\n",
    "nested arrays": b"*3\r\n*1\r\n*2\r\n:1\r\n:2\r\n*-1\r\n$1\r\nx\r\n",
    "null": b"_\r\n",
    "boolean": b"#t\r\n",
    "double": b",1.5\r\n",
    "infinity": b",-inf\r\n",
    "big number": b"(3492890328409238509324850943850943825024385\r\n",
    "bulk error": b"!5\r\nERR x\r\n",
    "verbatim string": b"=7\r\ntxt:a\r\n\r\n",
    "map": b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n",
    "empty map": b"%0\r\n",
    "set": b"~2\r\n+a\r\n$1\r\nb\r\n",
    "attribute and reply": b"|1\r\n+ttl\r\n:3600\r\n$1\r\nv\r\n",
    "attribute with nested values": b"|1\r\n*1\r\n+k\r\n%1\r\n+a\r\n*0\r\n*1\r\n:1\r\n",
    "attribute inside": b"*2\r\n|1\r\n+k\r\n+v\r\n:1\r\n:2\r\n",
    "empty attribute": b"|0\r\n+OK\r\n",
    "two attributes": b"|1\r\n+k\r\n+v\r\n|1\r\n+k\r\n+v\r\n:1\r\n",
}
HEADS = {
    "attribute and reply": b"$1\r\n",
    "attribute with nested values": b"*1\r\n",
    "empty attribute": b"+OK\r\n",
    "two attributes": b":1\r\n",
}
PUSH = b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n"


def head(name: str) -> bytes:
    """Return the first line of a reply that counts as its own."""
    return HEADS.get(name, REPLIES[name].partition(b"\r\n")[0] + b"\r\n")


def count(counter: ReplyCounter, data: bytes, step: int) -> tuple[int, list[bytes]]:
    """Feed bytes in pieces; return how many replies were counted, and their heads."""
    total, heads = 0, []
    for chunk in chunks(data, step):
        total += counter.feed(chunk)
        heads += counter.heads
    return total, heads


@pytest.mark.parametrize("step", [1, 2, 10_000])
@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_is_counted_once(name: str, step: int) -> None:
    """Whatever its type and in however many pieces it comes, a reply is one reply, told by its first line."""
    counter = ReplyCounter()
    assert count(counter, REPLIES[name], step) == (1, [head(name)])
    assert count(counter, b"+OK\r\n", step) == (1, [b"+OK\r\n"])
    assert not counter.lost


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_is_not_counted_before_its_last_byte(name: str) -> None:
    """The boundary is exact."""
    counter = ReplyCounter()
    assert counter.feed(REPLIES[name][:-1]) == 0
    assert counter.feed(REPLIES[name][-1:]) == 1


@pytest.mark.parametrize("step", [1, 3, 10_000])
def test_replies_of_all_types_are_counted_in_a_row(step: int) -> None:
    """Nothing of one reply is taken for another, and pushes between them are no replies."""
    data = PUSH.join(REPLIES.values())
    heads = [head(name) for name in REPLIES]
    assert count(ReplyCounter(), data, step) == (len(REPLIES), heads)


@pytest.mark.parametrize("step", [1, 10_000])
@pytest.mark.parametrize("push", [PUSH, b">0\r\n", b"|1\r\n+k\r\n+v\r\n" + PUSH])
def test_a_push_is_no_reply(push: bytes, step: int) -> None:
    """What Redis says of its own accord answers no command."""
    counter = ReplyCounter()
    assert count(counter, push, step) == (0, [])
    assert count(counter, b":1\r\n", step) == (1, [b":1\r\n"])


@pytest.mark.parametrize("step", [10, 10_000])
def test_the_head_of_a_reply_is_bounded(step: int) -> None:
    """Of a long line the beginning is enough to tell what became of a command."""
    line = b"-ERR " + b"x" * 5000 + b"\r\n"
    assert count(ReplyCounter(), line, step) == (1, [line[:128]])


def test_a_large_bulk_string_is_passed_over_in_pieces() -> None:
    """Nothing of it is kept."""
    counter = ReplyCounter()
    data = b"$1000000\r\n" + b"\n" * 1_000_000 + b"\r\n"
    assert count(counter, data, 65_536) == (1, [b"$1000000\r\n"])


@pytest.mark.parametrize(
    "garbage",
    [b"\r\n", b"\n", b"HTTP/1.1 400\r\n", b"$x\r\n", b"*\r\n", b"$5\n", b"*?\r\n", b"@1\r\n", b"+" + b"x" * 1_100_000],
)
def test_what_is_no_reply_ends_the_counting(garbage: bytes) -> None:
    """Replies before it count; after it nothing does, however well it looks."""
    counter = ReplyCounter()
    assert counter.feed(b"+OK\r\n" + garbage) == 1
    assert counter.lost
    assert counter.feed(b"+OK\r\n") == 0
    assert counter.heads == []


def test_more_values_than_any_reply_has_are_still_missing() -> None:
    """However many a damaged header announces: the compiled part is not asked to count them."""
    counter = ReplyCounter()
    header = b"*9223372036854775807\r\n"
    assert counter.feed(header * 3 + b":1\r\n") == 0
    assert not counter.lost
    assert not counter.between
