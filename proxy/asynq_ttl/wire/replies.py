"""Where a reply ends: counts the replies in what Redis sends, without decoding them. No I/O.

It must not know which command a reply answers. What is asked about every chunk also has a compiled answer (`_resp.c`);
where that was not built, the one here is used.

Source of the format: the Redis serialization protocol specification, RESP2 and RESP3.

Invariants:

* A reply counts when its last byte has come, and once.
* What is kept of a reply is bounded: the first bytes of its first line.
"""

try:
    from asynq_ttl.wire._resp import count_replies as _compiled_count
    from asynq_ttl.wire._resp import skip_values as _compiled_skip
except ImportError:  # there was no C compiler when this was installed
    _compiled_count = _compiled_skip = None  # type: ignore[assignment] # a function, or none

# Of the first line of a reply so much is kept.
MAX_HEAD_BYTES = 128
# A line may be cut in two anywhere; one longer than this is none. (Security limit.)
_MAX_LINE_BYTES = 1024 * 1024
# Where a reply announces more values than any has, the compiled part would count past its numbers.
_MANY = 1 << 40
_PUSH, _ATTRIBUTE = b">|"
_SIMPLE = frozenset(b"+-:_#,(")
_NULL = b"$-1\r\n"
_BULK = frozenset(b"$=!")
# How many values follow for each one that the header counts.
_AGGREGATE = {ord("*"): 1, ord("~"): 1, _PUSH: 1, ord("%"): 2, _ATTRIBUTE: 2}


def _count_replies(chunk: bytes) -> int:
    """Return 1 for a chunk that is one whole reply of one line or one bulk string; 0 for any other.

    Nearly every chunk is one reply. (The compiled one also counts several of them.)
    """
    end = chunk.find(b"\n") + 1
    if end == len(chunk) > 0:
        return int(chunk[0] in _SIMPLE or chunk == _NULL)
    length = len(chunk) - end - 2
    return int(length >= 0 and chunk.startswith(b"$%d\r\n" % length) and chunk.endswith(b"\r\n"))


def _skip_values(data: bytes, position: int, missing: int) -> tuple[int, int]:  # noqa: ARG001 - the compiled one does
    """Pass over values from a position on, while so many are missing: here over none.

    Returns: where that ended, and how many are missing then.
    """
    return position, missing


count_replies = _compiled_count if _compiled_count is not None else _count_replies
_skip = _compiled_skip if _compiled_skip is not None else _skip_values


class ReplyCounter:
    """Counts the replies in what Redis sends, by their exact boundaries.

    Pushes (RESP3) are no replies; attributes belong to the reply that follows them.
    """

    __slots__ = ("_head", "_left", "_line", "_open", "_push", "between", "heads", "lost")

    def __init__(self) -> None:
        self.lost = False
        """Whether something came that is no reply: nothing is counted any more."""
        self.between = True
        """Whether the next byte is the first of a reply or a push."""
        self.heads: list[bytes] = []
        """The first line of each reply that the latest bytes completed."""
        self._open = 0  # values still missing to the current reply; 0 between replies
        self._left = 0  # bytes still to come of a bulk string and its line end
        self._line = b""  # the beginning of a line that a chunk cut in two
        self._push = False
        self._head = b""

    def feed(self, data: bytes) -> int:
        """Take the next bytes of Redis; return how many replies they complete, whose first lines `heads` has then."""
        self.forget()
        position, size = 0, len(data)
        while position < size and not self.lost:
            position = self.advance(data, position)
        return len(self.heads)

    def forget(self) -> None:
        """Forget the first lines of the replies that have ended."""
        self.heads = []

    def advance(self, data: bytes, position: int) -> int:
        """Go on to the end of a reply or push, or as far as the data reaches; return where that is.

        `between` tells whether it has ended there. The first line of a reply that has is put at the end of `heads`.
        Where something came that is no reply, that is the end of the data, and it is `lost`.
        """
        size = len(data)
        while position < size:
            if self._left:
                step = min(self._left, size - position)
                self._left -= step
                position += step
                if self._left:
                    break
                self._value_done()
            else:
                end = data.find(b"\n", position) + 1
                if not end:
                    self._line += data[position:]
                    self.lost = len(self._line) > _MAX_LINE_BYTES
                    position = size
                    break
                line = data[position:end]
                if self._line:
                    line = self._line + line
                    self._line = b""
                position = end
                if not self._take_line(line):
                    self.lost = True
                    position = size
                    break
            if self._open and self._head and not self._left:
                position = self._pass_over(data, position)
            if not self._open:
                self.between = True
                return position
        self.between = False
        return position

    def _take_line(self, line: bytes) -> bool:
        """Take a whole line that begins a value; return False where it is none."""
        marker = line[0]
        if not self._open:
            self._open = 1
            self._head = b""
        if self._open == 1 and not self._head and marker != _ATTRIBUTE:
            self._head = line[:MAX_HEAD_BYTES]
            self._push = marker == _PUSH
        if marker in _SIMPLE:
            self._value_done()
            return True
        try:
            count = int(line[1:-2])
        except ValueError:
            return False
        if marker in _BULK:
            if count < 0:
                self._value_done()
            else:
                self._left = count + 2
        elif marker in _AGGREGATE:
            self._open += max(count, 0) * _AGGREGATE[marker]
            if marker != _ATTRIBUTE:  # it comes before the value it describes: that one is still missing
                self._value_done()
        else:
            return False
        return True

    def _pass_over(self, data: bytes, position: int) -> int:
        """Pass over the values of a reply that has begun, as far as they are plain and whole; return where they end."""
        if self._open >= _MANY:
            return position
        position, missing = _skip(data, position, self._open)
        if not missing:  # the last value is done
            self._open = 1
            self._value_done()
        self._open = missing
        return position

    def _value_done(self) -> None:
        self._open -= 1
        if not self._open and not self._push:
            self.heads.append(self._head)
