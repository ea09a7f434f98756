"""Where a command ends: splits what a client sends into commands, and encodes commands. No I/O.

It must not know what a command means: no script, no policy, not even a command's name. What is asked about every
command also has a compiled answer (`_resp.c`); where that was not built, the one here is used.

Source of the format: the Redis serialization protocol specification, RESP2 and RESP3.

Invariants:

* `CommandFramer` never changes, drops or reorders a byte: what it returns, joined, is what it was fed, except
  for the tail that is still being held.
* A command is only reported when Redis would frame it the same way, or would refuse it and hang up. Whatever
  else comes (inline commands, garbage) makes the connection *opaque*: from there on its bytes are copied, and no
  command is reported any more.
* What is held is bounded: a command that need not be seen whole is let through in pieces.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis

try:
    from asynq_ttl.wire._resp import encode as _compiled_encode
except ImportError:  # there was no C compiler when this was installed
    _compiled_encode = None  # type: ignore[assignment] # a function, or none

Command = list[bytes]

# A command that is not whole yet is held, since it might have to be rewritten. From the first limit on it is let
# through in pieces, unless `must_hold` says that it must be seen whole. `must_hold` is asked at the first limit, then
# whenever the size has doubled, and for the last time at the second limit. (Security limits.)
HOLD_BYTES = 64 * 1024
MAX_HELD_BYTES = 64 * 1024 * 1024

_NOT_ENOUGH: Final = object()
# Fed once the values of a chunk are out. It comes out as a value of its own exactly when the chunk ended at the
# end of a command; hiredis itself does not tell ("*1\r\n" leaves it without data, waiting).
_MARK: Final = b":0\r\n"
_STAR = ord("*")
_LEAST_BYTES = 4  # of the shortest command, "*0\r\n"
_CR = ord("\r")
# At the header of an array, set, push or attribute hiredis makes room for all the values it announces: many
# seconds for twenty bytes. What looks like a count of six digits or more is framed without it. (Security limit.)
_SET, _PUSH, _ATTRIBUTE = b"~>|"
_HUGE = tuple((marker, re.compile(rb"\%c\d{6}" % marker)) for marker in (_STAR, _SET, _PUSH, _ATTRIBUTE))


def _encode(command: Sequence[bytes]) -> bytes:
    """Encode a command as an array of bulk strings, the one form clients send.

    Raises:
        TypeError: not all of its elements are bytes.
    """
    packed: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type] # annotated for 1-tuples only
    return packed


encode = _compiled_encode if _compiled_encode is not None else _encode


class WholeCommands:
    """Decodes chunks that hold whole commands and nothing else, which is nearly all of them.

    It keeps no state from one chunk to the next, so one instance serves every connection.
    """

    def __init__(self) -> None:
        self._reader = _reader()

    def decode(self, chunk: bytes) -> list[Command] | None:
        """Return the commands of a chunk, or None if it is anything but whole commands.

        Several commands are in their one plain form. A lone one need not be: an element that is no bulk string comes
        out as hiredis decodes it.
        """
        if len(chunk) < _LEAST_BYTES or chunk[0] != _STAR:
            return None
        # Three digits in the first line, or another "*", a "~", ">" or "|" are rare: few chunks are searched.
        rare = chunk[3] > _CR or chunk.rfind(b"*") or _SET in chunk or _PUSH in chunk or _ATTRIBUTE in chunk
        if rare and _huge(chunk):
            return None
        reader = self._reader
        commands: list[Command] = []
        try:
            reader.feed(chunk)
            while type(value := reader.gets()) is list:
                commands.append(value)
            if value is _NOT_ENOUGH:
                reader.feed(_MARK)
                if reader.gets() == 0 and (len(commands) == 1 or is_plain(commands, chunk)):
                    return commands
        except Exception:  # noqa: BLE001, S110 - its own errors, TypeError for a list as a map's key, ...
            pass
        # What is left in the reader must not become part of another connection's commands.
        self._reader = _reader()
        return None


def _reader() -> Any:  # noqa: ANN401 - hiredis types its sentinel and its values as Any
    return hiredis.Reader(notEnoughData=_NOT_ENOUGH)


def _huge(chunk: bytes) -> bool:
    """Say whether a chunk may announce so many values that hiredis must not see it."""
    return any(marker in chunk and pattern.search(chunk) is not None for marker, pattern in _HUGE)


def is_plain(commands: list[Command], chunk: bytes) -> bool:
    """Say whether a chunk is these commands in their one plain form, so that none hides among the others."""
    try:
        return b"".join([encode(command) for command in commands]) == chunk
    except TypeError:
        return False


class CommandFramer:
    """Splits what one client sends into commands. Cheap for whole chunks, exact for any.

    Args:
        whole: the decoder shared by all connections.
        must_hold: given the leading arguments of a large, still incomplete command and its size so far, says
            whether it has to be seen whole before it is passed on. It is asked again before that size has doubled.
    """

    __slots__ = (
        "_args",
        "_at",
        "_held",
        "_left",
        "_line",
        "_must_hold",
        "_need",
        "_values",
        "_whole",
        "between",
        "opaque",
    )

    def __init__(self, whole: WholeCommands, must_hold: Callable[[Command, int], bool]) -> None:
        self.opaque = False
        """Whether commands can no longer be made out: everything is passed on as it comes."""
        self.between = True
        """Whether the next byte is the first of a command, and the connection is not opaque."""
        self._whole = whole
        self._must_hold = must_hold
        # The incomplete command at the end: its bytes, those of its arguments that are complete, where these end, and
        # how many bytes there must be before more of it can be made out.
        self._held = bytearray()
        self._args: Command = []
        self._at = 0
        self._need = 0
        # While a large command is let through: bulk strings still to come, bytes left of the current one, and the
        # beginning of a header line that was cut in two by the end of a chunk.
        self._values = 0
        self._left = 0
        self._line = b""

    @property
    def held_bytes(self) -> int:
        """The size of the incomplete command that is being held."""
        return len(self._held)

    @property
    def passing(self) -> bool:
        """Whether a large command is being let through, whose end has not come yet."""
        return self._values > 0

    def feed(self, chunk: bytes) -> tuple[bytes, list[Command], int]:
        """Take the next bytes of the client.

        Returns:
            The bytes that can be passed on; the commands in them; where in the bytes the first of them
            starts. A large command that is let through in pieces is reported by its name alone (by an empty name
            where that is not complete), as the last command of the piece that has its beginning; `passing` is
            True then.
        """
        if not self._held and not self._values:
            if self.opaque:
                return chunk, [], 0
            commands = self._whole.decode(chunk)
            if commands is not None:
                return chunk, commands, 0
        fed = self._feed_slowly(chunk)
        self.between = not (self._held or self._values or self.opaque)
        return fed

    def give_up(self) -> None:
        """Pass everything on as it comes from here on: Redis may see other commands than are seen here."""
        self.opaque = True
        self.between = False

    def _feed_slowly(self, chunk: bytes) -> tuple[bytes, list[Command], int]:
        if self._values:
            start = self._skip(chunk, 0)
            if self._values or self.opaque or start == len(chunk):
                return chunk, [], 0
            return self._frame(chunk, start, [], start)
        if not self._held:
            return self._frame(chunk, 0, [], 0)
        self._held += chunk
        if len(self._held) < self._need:
            return b"", [], 0
        data, args, at = bytes(self._held), self._args, self._at
        self._held = bytearray()
        return self._frame(data, 0, args, at)

    def _frame(self, data: bytes, start: int, args: Command, at: int) -> tuple[bytes, list[Command], int]:
        """Frame the commands in `data` from `start` on; hold an incomplete one at the end.

        The first command's arguments up to `at` are known already.
        """
        commands: list[Command] = []
        position = start
        while position < len(data):
            args, at, values = _scan(data, position, args, at)
            if at < 0:
                self.opaque = True
                return data, commands, start
            if values == 0:
                commands.append(args)
                position, args = at, []
                continue
            size = len(data) - position
            if size >= HOLD_BYTES and values > 0 and not self._must_hold(args, size):
                commands.append(args[:1] or [b""])
                self._values = values
                self._skip(data, at)
                break
            self._held += data[position:]
            self._args, self._at = args, at - position
            limit = HOLD_BYTES if size < HOLD_BYTES else min(2 * size, MAX_HELD_BYTES)
            self._need = min(_needed(data, at, values) - position, limit)
            return data[:position], commands, start
        return data, commands, start

    def _skip(self, data: bytes, position: int) -> int:
        """Pass over what `data` has of the command that is let through; return where it ends."""
        while self._values:
            if self._left:
                step = min(self._left, len(data) - position)
                self._left -= step
                position += step
                if self._left:
                    return position
                self._values -= 1
                continue
            end = data.find(b"\n", position) + 1
            self._line += data[position : end or len(data)]
            if not end and len(self._line) < _MAX_HEADER_BYTES:
                return len(data)
            length = _header(self._line, 0, b"$")[0]
            if length < 0:
                self.opaque = True
                self._values = 0
                return position
            self._line = b""
            self._left = length + 2
            position = end
        return position


_MAX_HEADER_BYTES = 32
# What every version of Redis accepts: this many values in a command (Redis 6.2), this many bytes in one of them
# (`proto-max-bulk-len`, which can be raised). A command past that is left to Redis: the connection becomes opaque.
_LIMITS = {b"*": 1024 * 1024, b"$": 512 * 1024 * 1024}
_LIMIT_DIGITS = 9
_ZERO = ord("0")


def _header(data: bytes, position: int, marker: bytes) -> tuple[int, int]:
    """Read `*<n>` or `$<n>` and its line end.

    Returns:
        The number, and where the line ends. The number is -1 where there is none; the second is then 0 if the line
        is not complete, and -1 if it is no such line.
    """
    if not data.startswith(marker, position):
        return -1, (-1 if position < len(data) else 0)
    limit = position + _MAX_HEADER_BYTES
    end = data.find(b"\r\n", position, limit)
    # An incomplete line is looked at too: Redis takes any byte for the line feed, so it might never come.
    digits = data[position + 1 : end] if end >= 0 else data[position + 1 : limit].removesuffix(b"\r")
    if end < 0 and not digits:
        return -1, 0
    # The one form Redis takes: no sign, no leading zero.
    if not digits.isdigit() or (digits[0] == _ZERO and len(digits) > 1) or len(digits) > _LIMIT_DIGITS:
        return -1, -1
    number = int(digits)
    if number > _LIMITS[marker]:
        return -1, -1
    return (number, end + 2) if end >= 0 else (-1, 0)


def _scan(data: bytes, position: int, args: Command, at: int) -> tuple[Command, int, int]:
    """Frame one command that starts at `position`, of which `args` up to `at` are known already.

    Returns:
        The arguments that are complete; where they end (-1 if this is not a plain command); how many are
        still to come (0: the command is whole, -1: not even their number is known).
    """
    count, body = _header(data, position, b"*")
    if count < 0:
        return [], (-1 if body < 0 else position), -1
    if not args:
        at = body
    while len(args) < count:
        length, body = _header(data, at, b"$")
        if length < 0:
            return args, (-1 if body < 0 else at), count - len(args)
        end = body + length
        if end + 2 > len(data):
            return args, at, count - len(args)
        if data[end : end + 2] != b"\r\n":
            return args, -1, 0
        args.append(data[body:end])
        at = end + 2
    return args, at, 0


def _needed(data: bytes, at: int, values: int) -> int:
    """Return how long `data` must get before the incomplete command at its end can be seen further."""
    length, body = _header(data, at, b"$") if values > 0 else (-1, 0)
    return body + length + 2 if length >= 0 else len(data) + 1
