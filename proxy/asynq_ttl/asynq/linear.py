"""Linear expressions of one ARGV, such as `-(ARGV[5]+1)`, as a script's trim has them. Pure.

The text is canonical, as `lua_reader` gives it: no white space, local names resolved. An `@`, which Lua
does not have, stands for the size of whatever the expression is about.
"""

import re
from typing import NamedTuple

_TOKEN = re.compile(r"tonumber|ARGV\[([1-9][0-9]?)\]|([0-9]{1,9})|[-+()@]")


class Linear(NamedTuple):
    """The expression `factor * ARGV[arg] + constant + sizes * size`."""

    arg: int
    factor: int
    constant: int
    sizes: int = 0


def linear(expression: str) -> Linear | None:
    """Return an expression as a linear one of exactly one ARGV; None for anything else.

    Args:
        expression: what a Lua text has, so its parentheses and operators are where Lua takes them.
    """
    arg = factor = constant = sizes = end = 0
    sign, around = 1, [1]
    for token in _TOKEN.finditer(expression):
        if token.start() != end:
            return None
        end = token.end()
        word = token[0]
        if token[1]:
            if arg not in (0, int(token[1])):
                return None
            arg, factor, sign = int(token[1]), factor + sign * around[-1], 1
        elif token[2]:
            constant, sign = constant + sign * around[-1] * int(word), 1
        elif word == "@":
            sizes, sign = sizes + sign * around[-1], 1
        elif word == "-":
            sign = -sign
        elif word == "(":
            around.append(sign * around[-1])
            sign = 1
        elif word == ")" and len(around) > 1:
            around.pop()
    return Linear(arg, factor, constant, sizes) if factor and end == len(expression) else None
