"""Keeps secrets of the command line out of the list of processes, which everybody on a machine may read.

What an option that may hold a secret was given moves to its variable: only the same user can read the environment of a
process. The program is then run again in its place, with the same process ID, before it has imported or begun anything.

It is the first thing that runs, so nothing here costs time to import.
"""

import os
import sys
from collections.abc import Mapping, Sequence

_UPSTREAM = ("--upstream",)
HIDDEN: Mapping[str, Sequence[str]] = {
    "serve": (*_UPSTREAM, "--sink", "--admin-token"),
    **dict.fromkeys(("audit", "backfill", "doctor", "export", "persist", "why"), _UPSTREAM),
}
"""The options of each command that may hold a secret. Each has a variable of its own."""


def hide() -> None:
    """Run the program again without secrets among its arguments; nothing where there are none."""
    hidden, variables = without_secrets(sys.argv[1:])
    # Python's own arguments, such as -m, come before those of the program.
    before = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv[1:])]
    if variables and sys.executable:
        os.execve(sys.executable, [*before, *hidden], os.environ | variables)  # noqa: S606 - this very program


def without_secrets(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return arguments without those that may hold a secret, and the variables that take their place."""
    names = HIDDEN.get(arguments[0], ()) if arguments else ()
    kept: list[str] = []
    variables: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            return [*kept, argument, *rest], variables
        name, equals, value = argument.partition("=")
        if name not in names:
            kept.append(argument)
            continue
        given = value if equals else next(rest, None)
        if given is None:  # the option's value is missing, which is said later
            kept.append(argument)
        else:
            variables["ASYNQ_TTL_" + name.removeprefix("--").replace("-", "_").upper()] = given
    return kept, variables
