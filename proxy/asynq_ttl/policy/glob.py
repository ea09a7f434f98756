"""Globs over queue names and task types, for Python and for Lua.

A glob is text in which `*` stands for any run of characters, `?` for one character, and `[abc]`, `[a-z]`,
`[!abc]` for one character of (or outside) a set. Sets hold ASCII characters only.

Invariant: `Glob.matches(text)` in Python and `string.find(text, glob.lua)` in Redis agree on every text that
is valid UTF-8. Bulk scripts pick a rule inside Redis by the Lua pattern; everything else picks it here.
"""

import re
from dataclasses import dataclass, field

# One UTF-8 encoded character as a Lua 5.1 pattern: a lead byte and its continuation bytes.
_LUA_CONTINUATION = "[\x80-\xbf]*"
_LUA_ANY_CHARACTER = "[^\x80-\xbf]" + _LUA_CONTINUATION

# Security limits. A miss costs Lua, inside Redis, about the text's length to the power of the `*`s.
_MAX_LENGTH = 256
_MAX_STARS = 5


class GlobError(ValueError):
    """A glob that cannot be understood; the message says why, for a person."""


@dataclass(frozen=True, slots=True)
class Glob:
    """A compiled glob; two globs are equal when their texts are.

    `lua` is the same glob as an anchored Lua 5.1 pattern, in bytes; `pieces` are its parts, see `_split`.
    """

    text: str
    lua: bytes = field(compare=False)
    pieces: tuple[str, ...] = field(compare=False, repr=False)
    _regex: re.Pattern[str] = field(compare=False, repr=False)

    def matches(self, text: str) -> bool:
        """Say whether the whole of `text` matches."""
        return self._regex.fullmatch(text) is not None

    def covers(self, other: "Glob") -> bool:
        """Say whether everything `other` matches is certain to match this glob too.

        Never says yes wrongly; it may say no where yes would be right (`?*` and `*a`, `[ab]` and `[a]`).
        """
        return _covers(self.pieces, other.pieces)


def compile_glob(text: str) -> Glob:
    """Compile a glob.

    Raises:
        GlobError: it is empty or too long, has a control character, half a surrogate pair or too many `*`, or
            a set is not closed or not ASCII.
    """
    pieces = tuple(_split(text))
    if pieces.count("*") > _MAX_STARS:
        raise GlobError(f"a glob can hold at most {_MAX_STARS} times '*'")
    regex = re.compile(_regex_text(pieces), re.DOTALL)
    lua = "^" + "".join(_lua_of(piece) for piece in pieces) + "$"
    return Glob(text, lua.encode("latin-1"), pieces, regex)


def _split(text: str) -> list[str]:
    r"""Split a glob into `*`, `?`, sets (`[...]`) and single literal characters (`\x`)."""
    if not text:
        raise GlobError("an empty glob matches nothing; leave it out to match everything")
    if any(ord(character) < 32 for character in text):
        raise GlobError("a glob cannot hold control characters")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise GlobError("a glob cannot hold half a surrogate pair, which is not text")
    if len(text) > _MAX_LENGTH:
        raise GlobError(f"a glob can hold at most {_MAX_LENGTH} characters")
    pieces: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        if character == "[":
            end = text.find("]", position + (3 if text.startswith("[!", position) else 2))
            if end < 0:
                raise GlobError("the set that starts with '[' is not closed by ']'")
            pieces.append(_checked_set(text[position : end + 1]))
            position = end + 1
            continue
        if character == "*":
            if not pieces or pieces[-1] != "*":
                pieces.append("*")
        elif character == "?":
            pieces.append("?")
        else:
            pieces.append("\\" + character)
        position += 1
    return pieces


def _checked_set(piece: str) -> str:
    if not piece.isascii():
        raise GlobError(f"the set {piece} holds characters outside ASCII")
    for low, high in _ranges(piece):
        if low > high:
            raise GlobError(f"the range {low}-{high} in {piece} is the wrong way round")
    return piece


def _ranges(piece: str) -> list[tuple[str, str]]:
    """Return the inclusive character ranges of a set piece, without its negation."""
    body = piece[2:-1] if piece.startswith("[!") else piece[1:-1]
    ranges: list[tuple[str, str]] = []
    position = 0
    while position < len(body):
        if body[position + 1 : position + 2] == "-" and position + 2 < len(body):
            ranges.append((body[position], body[position + 2]))
            position += 3
        else:
            ranges.append((body[position], body[position]))
            position += 1
    return ranges


def _regex_text(pieces: tuple[str, ...]) -> str:
    """Return a glob as a regular expression whose time grows with the text's length times the glob's.

    What follows a `*` is taken where it first occurs and never given back (an atomic group): a later place
    could only leave less text for the rest. The last `*` is the exception, what follows it is at the end.
    """
    fixed = [""]
    for piece in pieces:
        if piece == "*":
            fixed.append("")
        else:
            fixed[-1] += _regex_of(piece)
    if len(fixed) == 1:
        return fixed[0]
    return fixed[0] + "".join(f"(?>.*?{part})" for part in fixed[1:-1]) + ".*" + fixed[-1]


def _regex_of(piece: str) -> str:
    """Return the regular expression of a piece that stands for one character."""
    if piece == "?":
        return "."
    if piece.startswith("\\"):
        return re.escape(piece[1:])
    body = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in _ranges(piece))
    return f"[^{body}]" if piece.startswith("[!") else f"[{body}]"


def _lua_of(piece: str) -> str:
    """Return a piece as a Lua pattern, as Latin-1 text whose characters are the pattern's bytes."""
    if piece == "*":
        return ".*"
    if piece == "?":
        return _LUA_ANY_CHARACTER
    if piece.startswith("\\"):
        return "".join(_lua_literal(byte) for byte in piece[1:].encode())
    body = "".join(_lua_range(low, high) for low, high in _ranges(piece))
    if piece.startswith("[!"):
        return f"[^{body}\x80-\xbf]{_LUA_CONTINUATION}"
    return f"[{body}]"


def _lua_range(low: str, high: str) -> str:
    """Return a range for a Lua set. Lua has no escaped range ends, so punctuation is spelled out."""
    if low.isalnum() and high.isalnum():
        return low if low == high else f"{low}-{high}"
    return "".join(_lua_literal(code) for code in range(ord(low), ord(high) + 1))


def _lua_literal(byte: int) -> str:
    character = chr(byte)
    return character if byte >= 128 or character.isalnum() else "%" + character


def _covers(wide: tuple[str, ...], narrow: tuple[str, ...]) -> bool:
    """Match the pieces of `narrow` against `wide`; only a `*` of `wide` matches a `*` of `narrow`."""
    at, star, resume, position = 0, -1, 0, 0
    while position < len(narrow):
        if at < len(wide) and wide[at] == "*":
            star, resume = at, position
            at += 1
        elif at < len(wide) and _piece_covers(wide[at], narrow[position]):
            at += 1
            position += 1
        elif star >= 0:
            resume += 1
            at, position = star + 1, resume
        else:
            return False
    return all(piece == "*" for piece in wide[at:])


def _piece_covers(wide: str, narrow: str) -> bool:
    """Say whether a piece for one character covers another piece."""
    if narrow == "*":
        return False
    if wide in ("?", narrow):
        return True
    if wide.startswith("[") and narrow.startswith("\\"):
        return re.fullmatch(_regex_of(wide), narrow[1:]) is not None
    return False


def all_covered(wide: tuple[Glob, ...], narrow: tuple[Glob, ...]) -> bool:
    """Say whether all that some narrow globs match is matched by some wide ones; no globs match everything."""
    if not wide:
        return True
    return bool(narrow) and all(any(w.covers(n) for w in wide) for n in narrow)
