"""Rules as Lua gets them, where the rule is picked inside Redis: by the type that each task's message names. Pure.

`lua/wrappers/rules.prologue` picks. Lua patterns are bytes; as Latin-1 text each of them goes through JSON as it is.
"""

import json
from collections.abc import Mapping, Sequence

from asynq_ttl.policy.rules import Keep, Retention, Rule, State


def rules_for_lua(rules: Sequence[Rule], state: State) -> list[dict[str, object]]:
    """Return what rules say about a state, in their order; a rule that says nothing is missing.

    Args:
        rules: those that can decide about tasks of one queue.
        state: the state that the tasks enter.

    Returns:
        For each its `types`, patterns of which one must match (none for any type), and its `seconds`.
    """
    said = ((rule, rule.says(state)) for rule in rules)
    return [
        {"types": [glob.lua.decode("latin-1") for glob in rule.types], "seconds": seconds_for_lua(retention)}
        for rule, retention in said
        if retention is not None
    ]


def seconds_for_lua(retention: Retention) -> int | str:
    """Return how many seconds a task is kept: -1 for ever, 0 not at all, `own` for Asynq's own time."""
    if retention.keep is Keep.OWN:
        return "own"
    return -1 if retention.keep is Keep.FOREVER else retention.seconds


def lua_argument(content: Mapping[str, object]) -> bytes:
    """Return what a Lua text gets as one argument: JSON."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("latin-1")
