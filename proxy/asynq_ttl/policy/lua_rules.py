"""The rules that can apply to a queue and state, as Lua inside Redis picks one by the type in a task's message. Pure.

What is built here `lua/shared/pick.prologue` reads.

Invariant: for a task of any type, and for one whose type cannot be read, Lua picks what `Policy.decide` decides.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, Generic, ParamSpec

from asynq_ttl.policy.rules import OWN_ARCHIVE_SECONDS, Keep, Policy, Retention, Rule, State

Asked = ParamSpec("Asked")
# Queues that are remembered. (Security limit: a client can name as many as it likes.)
_MEMORY_LIMIT = 10_000

FOREVER = -1
"""The seconds of a task that is kept for ever."""


def picked_rules(policy: Policy, queue: str, state: State) -> dict[str, Any]:
    """Return the rules for tasks of a queue that enter a state.

    `rules` has them in order, each with `types` (Lua patterns; none for every type) and `seconds`. `unmatched` is what
    holds where none matches; it is missing where nothing does. Seconds are -1 for ever, 0 for not at all, `own` for
    Asynq's own time.
    """
    rules = policy.queue_rules(queue, state)
    content: dict[str, Any] = {
        "rules": [
            {"types": _patterns(rule), "seconds": _lua_seconds(retention)}
            for rule in rules
            if (retention := rule.says(state)) is not None
        ]
    }
    limits = policy.archive_limits(queue) if state is State.ARCHIVED else None
    if limits is not None and rules[-1].types and limits.outlasts(OWN_ARCHIVE_SECONDS):
        content["unmatched"] = "own"
    return content


def replacing_rules(policy: Policy, queue: str, state: State, first_mark: int) -> dict[str, Any]:
    """Return which tasks of a queue in a state an enqueue with their ID replaces, as `picked_rules` does.

    In place of the seconds there is 0 where the task stays, else a mark that tells one rule from the others.

    Args:
        policy, queue, state: as for `picked_rules`.
        first_mark: the mark of the first of the queue's rules for this state; each has the next number.
    """
    return {
        "rules": [
            {"types": _patterns(rule), "seconds": mark if rule.replaces(state) else 0}
            for mark, rule in enumerate(policy.queue_rules(queue, state), first_mark)
        ]
    }


def _patterns(rule: Rule) -> list[str]:
    return [glob.lua.decode("latin-1") for glob in rule.types]


def lua_argument(content: Mapping[str, object]) -> bytes:
    """Return a wrapper's argument. Lua patterns are bytes; Latin-1 carries each of them through JSON as it is."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("latin-1")


class LuaArguments(Generic[Asked]):
    """The arguments of wrappers, each put together once for a queue.

    Args:
        content: returns what is in the argument for a queue, from its name and whatever else depends on that alone.
    """

    def __init__(self, content: Callable[Concatenate[str, Asked], Mapping[str, object]]) -> None:
        self._content = content
        self._known: dict[str, bytes] = {}

    def of(self, queue: str, *asked: Asked.args, **named: Asked.kwargs) -> bytes:
        """Return the argument for a queue; what else is given is handed on to `content`."""
        known = self._known.get(queue)
        if known is not None:
            return known
        if len(self._known) >= _MEMORY_LIMIT:
            self._known.clear()
        argument = self._known[queue] = lua_argument(self._content(queue, *asked, **named))
        return argument


def _lua_seconds(retention: Retention) -> int | str:
    """Return how many seconds a task is kept, for the wrapper: -1 for ever, 0 not at all, `own` for Asynq's time."""
    if retention.keep is Keep.OWN:
        return "own"
    return FOREVER if retention.keep is Keep.FOREVER else retention.seconds
