"""Replies as trees."""

import pytest

from asynq_ttl.wire.cluster.topology import NoTopologyError
from asynq_ttl.wire.cluster.values import (
    Value,
    Values,
    bulk,
    encode_value,
    fields_of,
    items_of,
    parse_reply,
    text_of,
)

REPLY = b"*5\r\n:1\r\n$3\r\na\r\n\r\n%1\r\n+k\r\n~2\r\n$-1\r\n_\r\n*-1\r\n*0\r\n"


def test_a_tree_becomes_the_same_bytes() -> None:
    """Whatever is in it."""
    tree = parse_reply(REPLY)
    assert isinstance(tree, Values)
    assert tree.items[1] == b"$3\r\na\r\n\r\n"
    assert tree.items[3:] == [b"*-1\r\n", Values(ord("*"), [])]
    assert encode_value(tree) == REPLY
    assert parse_reply(b"-ERR x\r\n") == b"-ERR x\r\n"


@pytest.mark.parametrize(
    "reply",
    [*(REPLY[:end] for end in range(len(REPLY))), REPLY + b"x", b"*x\r\n", b"?1\r\n", b"*1\r\n" * 11 + b":1\r\n"],
)
def test_what_is_no_whole_reply_is_refused(reply: bytes) -> None:
    """Cut, followed by something, no reply at all, or nested too deeply."""
    with pytest.raises(NoTopologyError):
        parse_reply(reply)


def test_fields_are_those_of_a_map() -> None:
    """In RESP2 a map is an array."""
    for marker in b"*%":
        assert fields_of(Values(marker, [bulk(b"a"), b":1\r\n", b"+b\r\n", b":2\r\n"])) == {
            "a": b":1\r\n",
            "b": b":2\r\n",
        }


def test_a_text_may_be_missing() -> None:
    """Then it is empty."""
    texts: list[Value | None] = [bulk(b"a"), b"+a\r\n", None, b"$-1\r\n", b"_\r\n"]
    assert [text_of(each) for each in texts] == ["a", "a", "", "", ""]


def test_anything_else_is_refused() -> None:
    """A number is no text and has no items."""
    for complain in (text_of, items_of, fields_of):
        with pytest.raises(NoTopologyError):
            complain(b":1\r\n")
