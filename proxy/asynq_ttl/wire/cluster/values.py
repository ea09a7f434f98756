"""A whole reply as a tree that becomes the very same bytes again: what is one value in it stays as it came.

Nested deeper than replies that name nodes ever are, or announcing more than it has, a reply is refused.
"""

from dataclasses import dataclass

from asynq_ttl.wire.cluster.topology import NoTopologyError

_BULK = frozenset(b"$=!")
_LINE = frozenset(b"+-:_#,(")
# How many values follow for each one that the header counts.
_AGGREGATE = {ord("*"): 1, ord("~"): 1, ord("%"): 2}
# What names nodes has six, and a transaction around it one more. (Security limit.)
_MAX_DEPTH = 10


@dataclass(slots=True)
class Values:
    """Several values in one.

    Attributes:
        marker: how the reply begins: an array, a set or a map.
        items: what it has: bytes for one value as it came. A map has its keys and values one after the other.
    """

    marker: int
    items: list["bytes | Values"]


Value = bytes | Values


def parse_reply(reply: bytes) -> Value:
    """Return a whole reply as a tree.

    Raises:
        NoTopologyError: it is none, or not one whole reply.
    """
    try:
        value, end = _parse(reply, 0, _MAX_DEPTH)
    except (ValueError, IndexError):
        raise NoTopologyError("it is no reply that can be taken apart") from None
    if end != len(reply):
        raise NoTopologyError("it is not one whole reply")
    return value


def _parse(reply: bytes, at: int, depth: int) -> tuple[Value, int]:
    end = reply.index(b"\n", at) + 1
    marker = reply[at]
    if marker in _LINE:
        return reply[at:end], end
    count = int(reply[at + 1 : end - 2])
    if marker in _BULK:
        end += count + 2 if count >= 0 else 0
        if end > len(reply):
            raise IndexError
        return reply[at:end], end
    if count < 0:
        return reply[at:end], end
    if depth == 0 or marker not in _AGGREGATE:
        raise ValueError
    items: list[Value] = []
    for _ in range(count * _AGGREGATE[marker]):
        item, end = _parse(reply, end, depth - 1)
        items.append(item)
    return Values(marker, items), end


def encode_value(value: Value) -> bytes:
    """Return a tree as bytes."""
    pieces: list[bytes] = []
    _encode(value, pieces)
    return b"".join(pieces)


def _encode(value: Value, pieces: list[bytes]) -> None:
    if isinstance(value, bytes):
        pieces.append(value)
        return
    pieces.append(b"%c%d\r\n" % (value.marker, len(value.items) // _AGGREGATE[value.marker]))
    for item in value.items:
        _encode(item, pieces)


def items_of(value: Value | None) -> list[Value]:
    """Return the items of an array or a map.

    Raises:
        NoTopologyError: it is neither.
    """
    if not isinstance(value, Values):
        raise NoTopologyError("something else is expected there")
    return value.items


def fields_of(value: Value | None) -> dict[str, Value]:
    """Return the fields of a map, in RESP2 an array of names and values.

    Raises:
        NoTopologyError: it is no such thing.
    """
    items = items_of(value)
    return {text_of(name): item for name, item in zip(items[::2], items[1::2], strict=False)}


def text_of(value: Value | None) -> str:
    """Return the text of a string; empty for none.

    Raises:
        NoTopologyError: it is no string.
    """
    if value is None or value in (b"$-1\r\n", b"_\r\n"):
        return ""
    if not isinstance(value, bytes) or value[:1] not in (b"$", b"+"):
        raise NoTopologyError("a text is expected there")
    start = value.index(b"\n") + 1 if value[:1] == b"$" else 1
    return value[start:-2].decode("latin-1")


def bulk(text: bytes) -> bytes:
    """Return a bulk string."""
    return b"$%d\r\n%b\r\n" % (len(text), text)
