"""The blocks of a Lua text, and what holds in them. Pure; knows nothing of Asynq or Redis.

Invariants:

* No text raises.
* Reading takes time in proportion to the text's length.
* Where it is not certain that something holds, it is not said.
"""

from asynq_ttl.asynq.lua_expressions import resolved

# Security limits, as in `lua_expressions`. A script's condition has about 20 tokens, its blocks are 4 deep.
_MAX_TOKENS = 40
_MAX_DEPTH = 20


class Blocks:
    """The blocks that a position of a text is in.

    Args:
        tokens: the text's tokens.
        names: what local names stand for; it may grow from one position to the next.
    """

    def __init__(self, tokens: list[str], names: dict[str, str]) -> None:
        self._tokens = tokens
        self._names = names
        # What each block asks for, the innermost last; None for one that is entered whatever holds.
        self._blocks: list[tuple[str, ...] | None] = []
        # Whether a `for` or `while`, which has opened its block already, waits for its `do`.
        self._headed = False

    @property
    def guard(self) -> tuple[str, ...]:
        """What holds here, by the innermost `if` or `while` around: canonical text, one for each of what `and` joins.

        Empty where nothing is asked for, and where an `or` or `not` is in it.
        """
        return next((block for block in reversed(self._blocks[-_MAX_DEPTH:]) if block is not None), ())

    @property
    def depth(self) -> int:
        """How many blocks are open here."""
        return len(self._blocks)

    def enter(self, position: int) -> None:
        """Go to a position; every position before it was gone to."""
        word = self._tokens[position]
        if word in ("if", "while"):
            self._blocks.append(self._condition(position + 1))
            self._headed = word == "while"
        elif word == "for":
            self._blocks.append(None)
            self._headed = True
        elif word == "do":
            if not self._headed:
                self._blocks.append(None)
            self._headed = False
        elif word in ("function", "repeat"):
            self._blocks.append(() if word == "function" else None)
        elif word in ("elseif", "else") and self._blocks:
            self._blocks[-1] = self._condition(position + 1) if word == "elseif" else ()
        elif word in ("end", "until") and self._blocks:
            self._blocks.pop()

    def _condition(self, position: int) -> tuple[str, ...]:
        """Return what `and` joins in the condition at a position; nothing where it is not of that form."""
        parts: list[list[str]] = [[]]
        for at, word in enumerate(self._tokens[position : position + _MAX_TOKENS], position):
            if word in ("then", "do"):
                return tuple("".join(part) for part in parts)
            if word in ("or", "not"):
                return ()
            if word == "and":
                parts.append([])
            else:
                parts[-1].append(resolved(self._tokens, at, self._names))
        return ()
