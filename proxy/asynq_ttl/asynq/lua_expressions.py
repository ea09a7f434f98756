"""What the expressions of a Lua text read as: canonical text, with local names resolved. Pure; knows nothing of Asynq.

Canonical text has strings in double quotes, and no white space.

Invariants:

* No text raises.
* What an expression reads as is bounded, and so is the time to read it.
"""

import re

# Security limits: no text may be slow to read, or grow while it is read. Asynq's longest call has about 40
# tokens, its longest expression 20 characters.
MAX_TOKENS = 200
_MAX_EXPRESSION = 100

_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_KEY = re.compile(r"KEYS\[\d+\]")
# What `total` gives, and a plain ARGV.
_TOTAL = re.compile(r'(?:tonumber|ARGV\[\d+\]|redis\.call\("ZCARD",KEYS\[\d+\]\)|[-+()\d])+')
# What after a term says that the expression is more than terms joined by `..`.
_CONTINUES = frozenset((*".([{:+-*/%^<>", "==", "~=", "<=", ">=", "and", "or"))


def arguments(tokens: list[str], position: int, names: dict[str, str]) -> list[str]:
    """Return the arguments of a call as canonical text; none where no call is at `position`, or too long a one.

    Args:
        tokens: the text's tokens.
        position: where the opening parenthesis is.
        names: what local names stand for.
    """
    if tokens[position : position + 1] != ["("]:
        return []
    args: list[list[str]] = [[]]
    depth = 0
    for at, word in enumerate(tokens[position : position + MAX_TOKENS], position):
        if word in _CLOSE:
            depth -= 1
            if depth == 0:
                return ["".join(arg) for arg in args]
        if depth == 1 and word == ",":
            args.append([])
        elif depth > 0:
            args[-1].append(resolved(tokens, at, names))
        if word in _OPEN:
            depth += 1
    return []


def resolved(tokens: list[str], position: int, names: dict[str, str]) -> str:
    """Return what a word stands for; a field's name (`math.max`) for itself."""
    word = tokens[position]
    return word if position and tokens[position - 1] in (".", ":") else names.get(word, word)


def expression(tokens: list[str], position: int, names: dict[str, str]) -> str:
    """Return a simple expression as canonical text: terms joined by `..`. Empty for anything else.

    Args:
        tokens: the text's tokens.
        position: where the expression begins.
        names: what the local names before it stand for; one that stands for nothing simple stays as it is.
    """
    terms: list[str] = []
    while sum(map(len, terms)) <= _MAX_EXPRESSION:
        word = tokens[position] if position < len(tokens) else ""
        term = names.get(word, word)
        if term in ("KEYS", "ARGV") and tokens[position + 1 : position + 4 : 2] == ["[", "]"]:
            terms.append("".join((term, *tokens[position + 1 : position + 4])))
            position += 4
        elif word.startswith('"') or _NAME.fullmatch(word):
            terms.append(term)
            position += 1
        else:
            return ""
        following = tokens[position] if position < len(tokens) else ""
        if following != "..":
            return "" if following in _CONTINUES else "..".join(terms)
        position += 1
    return ""


def total(tokens: list[str], position: int, names: dict[str, str]) -> str:
    """Return a sum as canonical text, in parentheses where it has several terms. Empty for anything else.

    Its terms are numbers, ARGV, and the size of a sorted set, `redis.call("ZCARD",KEYS[2])`.

    Args:
        tokens: the text's tokens.
        position: where the expression begins.
        names: what the local names before it stand for.
    """
    found: list[str] = []
    depth, operand = 0, True
    while sum(map(len, found)) <= _MAX_EXPRESSION:
        word = tokens[position] if position < len(tokens) else ""
        size = _size(tokens, position, names) if operand else ""
        position += 1
        if operand and word == "ARGV" and tokens[position : position + 3 : 2] == ["[", "]"]:
            word = "".join((word, *tokens[position : position + 3]))
            position += 3
            operand = False
        elif size:
            word, position, operand = size, tokens.index(")", position) + 1, False
        elif operand and word == "tonumber" and tokens[position : position + 1] == ["("]:
            word, position, depth = "tonumber(", position + 1, depth + 1
        elif operand and word in ("-", "("):
            depth += word == "("
        elif operand and (word.isdigit() or _TOTAL.fullmatch(names.get(word, ""))):
            word, operand = names.get(word, word), False
        elif not operand and word == ")" and depth:
            depth -= 1
        elif not operand and word in ("+", "-"):
            operand = True
        else:
            ended = not operand and not depth and word not in _CONTINUES
            text = "".join(found)
            return (f"({text})" if "+" in text or "-" in text else text) if ended else ""
        found.append(word)
    return ""


def _size(tokens: list[str], position: int, names: dict[str, str]) -> str:
    """Return the size of a sorted set that is asked for at a position as canonical text; empty for anything else."""
    head = tokens[position : position + 3]
    named = len(head) > 1 and head[1] == "(" and names.get(head[0]) == "redis.call"
    if not named and head not in (["redis", ".", "call"], ["redis", ".", "pcall"]):
        return ""
    args = arguments(tokens, position + (1 if named else 3), names)
    known = len(args) == 2 and args[0].upper() == '"ZCARD"' and _KEY.fullmatch(args[1])
    return f'redis.call("ZCARD",{args[1]})' if known else ""
