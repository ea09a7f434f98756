"""Calls that end a task as earlier ones did: what each becomes, without a decision. Pure.

It decides nothing. `ending` has decided about a call that differs in nothing but the task, its times and its trace, and
has said so by its terms. What is filled in, `Terms` knows; what is looked at here is that the call is such a one.

Invariants:

* What is not certain to be such a call is left to `ending`, which also says what is wrong with it.
* It holds as long as the rewriter that has decided, and the script's wrapper, are the same (`session.fast_path`).
* Bounded: as many terms as `MAX_TERMS` for one script; past it all of them are forgotten.
"""

from asynq_ttl.asynq import message
from asynq_ttl.asynq.keys import text_of
from asynq_ttl.asynq.script_shape import Kind
from asynq_ttl.events import Decision
from asynq_ttl.policy.rules import OWN_ARCHIVE_SECONDS
from asynq_ttl.rewriting.call import MAX_DIGITS
from asynq_ttl.rewriting.registry import Script
from asynq_ttl.rewriting.terms import Alike, Terms
from asynq_ttl.wire.commands import Command

# Terms that are remembered for one script, and how long the names in what they are told apart by may be. (Security
# limits: clients make names up.)
MAX_TERMS = 2_000
MAX_NAMES = 1_024

# So long before the end of a task nothing is trimmed.
_NO_TIME = -(10**18)


class Remembered:
    """The calls of one script, by what they are told apart by.

    Args:
        script: the script.
        elements: how many elements its calls have.
        keys: how many of them are KEYS.
    """

    __slots__ = (
        "_args", "_cap", "_clock", "_cutoff", "_elements", "_id", "_index", "_keys", "_message", "_retains",
        "_sha", "_task", "_terms", "_time",
    )  # fmt: skip

    def __init__(self, script: Script, elements: int, keys: int) -> None:
        shape = script.shape
        self._elements, self._keys = elements, keys
        self._clock = script.clock
        self._sha = script.wrapper_sha
        # Where they stand in a call; 0 for nowhere.
        self._index, self._task = 2 + shape.index_key, 2 + shape.task_key
        self._args = args = 2 + keys
        self._id, self._message, self._time = args + shape.id_arg, args + shape.msg_arg, args + shape.time_arg
        self._cutoff, self._cap = (number and args + number for number in (shape.cutoff_arg, shape.cap_arg))
        self._retains = script.kind is Kind.COMPLETE
        self._terms: dict[Alike, Terms] = {}

    def remember(self, alike: Alike, terms: Terms) -> None:
        """Remember the terms of calls."""
        if len(alike[0]) + len(alike[1]) + len(alike[3]) > MAX_NAMES:
            return
        if len(self._terms) >= MAX_TERMS:
            self._terms.clear()
        self._terms[alike] = terms

    def recall(self, command: Command, keys: int) -> tuple[Command | None, Decision] | None:
        """Return what goes to Redis instead of a call, or None in its place for the call as it came, and what is told.

        Args:
            command: the whole command.
            keys: its number of KEYS.

        Returns:
            That; None where it has to be decided.
        """
        time = command[self._time] if keys == self._keys and len(command) == self._elements else b""
        task = message.plain(command[self._message]) if time.isdigit() and len(time) <= MAX_DIGITS else None
        if task is None:
            return None
        task_type, _, _, own_seconds, traceparent, tracestate = task
        now, cap = int(time), b""
        if self._retains:
            now -= own_seconds  # in the call it is when the entry is due
        else:
            cap = command[self._cap] if self._cap else cap
            own_seconds = now - _seconds(command[self._cutoff]) if self._cutoff else OWN_ARCHIVE_SECONDS
        terms, task_id = self._terms.get((command[self._index], task_type, own_seconds, cap)), command[self._id]
        if terms is None or now < 0 or command[self._task] != terms.prefix + task_id:
            return None
        enforced, size = terms.enforced, len(command[self._message])
        decision = terms.told(text_of(task_id), traceparent, tracestate, size, enforced=enforced)
        if not enforced:
            return None, decision
        tail, score = terms.fill(now, agrees=not terms.timed or self._clock.agrees(now))
        changed = [*command, tail]
        changed[1] = self._sha
        if score:
            changed[self._time] = score
        for number, value in terms.argv:
            changed[self._args + number] = value
        return changed, decision


def _seconds(text: bytes) -> int:
    """Return a time in a call; where it is not plainly one, what no call is remembered with."""
    return int(text) if text.isdigit() and len(text) <= MAX_DIGITS else _NO_TIME
