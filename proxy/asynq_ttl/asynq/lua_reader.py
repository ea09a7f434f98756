"""The calls of a Lua text to Redis, read without running it. Pure; knows nothing of Asynq.

This is not a Lua interpreter. It reads `redis.call(...)` and `redis.pcall(...)`, and it resolves the simplest of local
names: after `local index = KEYS[2]`, an argument `index` reads as `KEYS[2]`, and after `local cap = ARGV[5] + 1`, an
argument `-cap` reads as `-(ARGV[5]+1)`. Any other name stays as it is in the text. What an expression reads as,
`lua_expressions` says; what holds where a call stands, `lua_blocks`.

Invariants:

* No text raises.
* Reading takes time in proportion to the text's length, and memory too.
* A name assigned twice is not resolved: which value holds where would need a Lua interpreter.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from asynq_ttl.asynq.lua_blocks import Blocks
from asynq_ttl.asynq.lua_expressions import MAX_TOKENS, arguments, expression, total

# A string or comment without an end takes the rest of the text, which Lua would refuse.
_TOKEN = re.compile(
    r"""
      (?P<comment> --\[(?P<c>=*)\[.*?(?:\](?P=c)\]|\Z) | --[^\n]* )
    | (?P<string>  (?P<q>["'])(?:\\(?:.|\Z)|(?!(?P=q))[^\\])*+(?:(?P=q)|\Z) | \[(?P<s>=*)\[.*?(?:\](?P=s)\]|\Z) )
    | (?P<name>    [A-Za-z_]\w* )
    | (?P<number>  \d+(?:\.\d+)? )
    | (?P<symbol>  \.\. | [=~<>]= | [^\s\w] )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
# What `starts_with` looks at. The head of Asynq's script that completes a task has 107.
_HEAD_TOKENS = 150
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_CALLERS = (["redis", ".", "call"], ["redis", ".", "pcall"])
# What a script may do with KEYS or ARGV as a whole without changing it: count, unpack, or go through it.
_READERS = (["unpack", "("], ["ipairs", "("], ["pairs", "("], ["getn", "("])


@dataclass(frozen=True, slots=True)
class LuaCall:
    """One `redis.call(...)` of a text.

    Attributes:
        command: the command in upper case.
        args: its arguments as canonical text: strings in double quotes, no white space, local names resolved. So
            `"state"`, `KEYS[1]`, `ARGV[2]..id`.
        guard: what holds where it is called, see `lua_blocks`.
        depth: how many blocks it is in.
        at: where it begins, in tokens.
    """

    command: str
    args: tuple[str, ...]
    guard: tuple[str, ...] = field(default=(), compare=False)
    depth: int = field(default=0, compare=False)
    at: int = field(default=0, compare=False)


class LuaText:
    """A Lua text, as far as it is understood.

    Args:
        text: the text. Bytes that are not ASCII have no meaning in Lua outside strings, so Latin-1 will do.

    Attributes:
        calls: its calls of `redis.call` and `redis.pcall`, in their order. Left out are those that do not spell out the
            command, see `hides_calls`, and those of more tokens than any of Asynq's has.
    """

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._bound = _bindings(self._tokens)
        self._callers = _callers(self._tokens, self._bound)
        self.calls = tuple(_calls(self._tokens, self._bound, self._callers))

    def mentions(self, string: str) -> bool:
        """Say whether a string is written out in the text, other than in a comment or in another string."""
        return f'"{string}"' in self._tokens

    def changes_arguments(self) -> bool:
        """Say whether the text may change the tables KEYS and ARGV, so that `KEYS[1]` is not the first key sent."""
        tokens, tables = self._tokens, {"KEYS", "ARGV"}
        for position, word in enumerate(tokens):
            if word not in tables or tokens[position + 1 : position + 2] == ["["]:
                continue
            before = tokens[max(position - 3, 0) : position]
            if before[:1] == ["local"] and before[2:] == ["="]:
                tables.add(before[1])
            elif before[-1:] != ["#"] and before[-2:] not in _READERS and before[-1:] != ["local"]:
                return True
        return any(self._bound[name] > (name not in ("KEYS", "ARGV")) for name in tables)

    def returns_before(self, at: int) -> Iterator[str]:
        """Yield the beginning of what each `return` before a position gives back, as far as it can be a reply's kind.

        Args:
            at: the position, in tokens.
        """
        for position, word in enumerate(self._tokens[:at]):
            if word == "return":
                yield "".join(self._tokens[position + 1 : position + 4])

    def starts_with(self, form: re.Pattern[str]) -> re.Match[str] | None:
        """Return how a form matches the text's first tokens, put together with spaces; None if it does not."""
        return form.match(" ".join(self._tokens[:_HEAD_TOKENS]))

    def hides_calls(self) -> bool:
        """Say whether the text may call Redis in a way that is not read.

        It may use another name for `redis` or `redis.call`, or take the command's name from elsewhere.
        """
        return any(map(self._hides_call, range(len(self._tokens))))

    def _hides_call(self, position: int) -> bool:
        tokens = self._tokens
        if tokens[position] == "redis" and tokens[position + 1 : position + 2] != ["."]:
            return True
        if _is_call(tokens, position, self._callers):
            paren = position + 1
        elif tokens[position : position + 3] in _CALLERS:
            paren = position + 3
            if tokens[paren : paren + 1] != ["("]:
                # Neither called nor given one of the names that are followed.
                return tokens[position - 3 : position - 2] != ["local"] or tokens[position - 2] not in self._callers
        else:
            return False
        return not "".join(tokens[paren + 1 : paren + 2]).startswith('"')


def _tokens(text: str) -> list[str]:
    """Split a Lua text into tokens without comments. Every string comes out in double quotes, however it was quoted."""
    return [_canonical(match) for match in _TOKEN.finditer(text) if match.lastgroup != "comment"]


def _canonical(match: re.Match[str]) -> str:
    word = match[0]
    if match.lastgroup != "string":
        return word
    width = 1 if match["s"] is None else 2 + len(match["s"])
    return f'"{word[width:-width]}"'


def _bindings(tokens: list[str]) -> Counter[str]:
    """Count how often each name is given a value, by assignment, by a loop or as a function's parameter."""
    bound: Counter[str] = Counter()
    for position, word in enumerate(tokens):
        if word in ("=", "in"):
            bound.update(_targets(tokens, position - 1))
        elif word == "function":
            head = tokens[position + 1 : position + MAX_TOKENS]
            bound.update(head[: head.index(")")] if ")" in head else head)
    return bound


def _targets(tokens: list[str], position: int) -> Iterator[str]:
    """Yield the names in a list of assignment targets, from its last token at `position` backwards.

    Of `name[...]` it is the name.
    """
    depth = 0
    name_expected = True
    for word in reversed(tokens[max(position - MAX_TOKENS, 0) : position + 1]):
        depth += (word == "]") - (word == "[")
        if depth or word == "[":
            continue
        if name_expected and _NAME.fullmatch(word):
            yield word
        elif name_expected or word not in (",", "."):
            return
        name_expected = not name_expected


def _calls(tokens: list[str], bound: Counter[str], callers: set[str]) -> Iterator[LuaCall]:
    """Yield the calls of a text in their order, with local names resolved.

    Args:
        tokens: the text's tokens.
        bound: how often each name is given a value.
        callers: local names for `redis.call`.
    """
    names = dict.fromkeys(callers, "redis.call")
    blocks = Blocks(tokens, names)
    for position, word in enumerate(tokens):
        blocks.enter(position)
        if word == "local" and tokens[position + 2 : position + 3] == ["="]:
            name = tokens[position + 1]
            if bound[name] == 1 and name not in callers:
                names[name] = expression(tokens, position + 3, names) or total(tokens, position + 3, names) or name
        elif tokens[position : position + 3] in _CALLERS or _is_call(tokens, position, callers):
            args = arguments(tokens, position + (1 if word in callers else 3), names)
            if args and args[0].startswith('"'):
                yield LuaCall(args[0][1:-1].upper(), tuple(args[1:]), blocks.guard, blocks.depth, position)


def _callers(tokens: list[str], bound: Counter[str]) -> set[str]:
    """Return the local names that stand for `redis.call` or `redis.pcall`."""
    return {
        tokens[position + 1]
        for position, word in enumerate(tokens)
        if word == "local"
        and tokens[position + 2 : position + 3] == ["="]
        and tokens[position + 3 : position + 6] in _CALLERS
        and tokens[position + 6 : position + 7] != ["("]
        and bound[tokens[position + 1]] == 1
    }


def _is_call(tokens: list[str], position: int, callers: set[str]) -> bool:
    """Say whether a local name for `redis.call` is called at a position."""
    return (
        tokens[position] in callers
        and tokens[position + 1 : position + 2] == ["("]
        and tokens[position - 1 : position] not in ([["."], [":"]])
    )
