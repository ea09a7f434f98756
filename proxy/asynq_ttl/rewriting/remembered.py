"""Calls that end a task as earlier ones did: what each becomes, without a decision. Pure.

It decides nothing. `ending` has decided about a call that differs in nothing but the task, its times and its trace, and
has said so by its terms. What is filled in, `Terms` knows; what is looked at here is that the call is such a one.

Invariants:

* What is not certain to be such a call is left to `ending`, which also says what is wrong with it.
* `_remembered.h` does the same for a command as bytes: what is looked at and filled in is so in both.
* It holds as long as the rewriter that has decided, and the script's wrapper, are the same (`session.fast_path`).
* Bounded: as many terms as `MAX_TERMS` for one script; past it all of them are forgotten.
"""

from typing import NamedTuple

from asynq_ttl.asynq import message
from asynq_ttl.asynq.keys import text_of
from asynq_ttl.asynq.script_shape import Kind
from asynq_ttl.events import Decision
from asynq_ttl.policy.rules import OWN_ARCHIVE_SECONDS
from asynq_ttl.rewriting.call import MAX_DIGITS
from asynq_ttl.rewriting.redis_clock import RedisClock
from asynq_ttl.rewriting.registry import Script
from asynq_ttl.rewriting.terms import Alike, Terms, alike
from asynq_ttl.wire.commands import Command

# Terms that are remembered for one script, and how long the names in what they are told apart by may be. (Security
# limits: clients make names up.)
MAX_TERMS = 2_000
MAX_NAMES = 1_024

# So long before the end of a task nothing is trimmed.
_NO_TIME = -(10**18)


class Remembered(NamedTuple):
    """The calls of one script, by what they are told apart by. A tuple, as `Terms` is, and for the same reason.

    Attributes:
        elements: how many elements its calls have.
        keys: how many of them are KEYS.
        first_arg: the element behind which its ARGV are counted.
        index_key, task_key, task_id, message, time: the elements that are the key of the index, the task's key, its ID,
            its message, and when it has ended.
        cutoff, cap: those by which the script itself trims; 0 for none.
        retains: whether the time is rather when the task's retention is over.
        own_seconds: for how long Asynq itself keeps a task where neither its message nor a cutoff says.
        sha: the SHA of the wrapper.
        clock: Redis's clock.
        terms: the terms that are known.
    """

    elements: int
    keys: int
    first_arg: int
    index_key: int
    task_key: int
    task_id: int
    message: int
    time: int
    cutoff: int
    cap: int
    retains: bool
    own_seconds: int
    sha: bytes
    clock: RedisClock
    terms: dict[Alike, Terms]

    @classmethod
    def of(cls, script: Script, elements: int, keys: int) -> "Remembered":
        """Return what remembers the calls of a script that have so many elements, and so many KEYS."""
        shape, args = script.shape, 2 + keys
        cutoff, cap = (number and args + number for number in (shape.cutoff_arg, shape.cap_arg))
        return cls(
            elements=elements,
            keys=keys,
            first_arg=args,
            index_key=2 + shape.index_key,
            task_key=2 + shape.task_key,
            task_id=args + shape.id_arg,
            message=args + shape.msg_arg,
            time=args + shape.time_arg,
            cutoff=cutoff,
            cap=cap,
            retains=script.kind is Kind.COMPLETE,
            own_seconds=OWN_ARCHIVE_SECONDS,
            sha=script.wrapper_sha,
            clock=script.clock,
            terms={},
        )

    def remember(self, key: Alike, terms: Terms) -> None:
        """Remember the terms of calls."""
        if len(key) > MAX_NAMES:
            return
        if len(self.terms) >= MAX_TERMS:
            self.terms.clear()
        self.terms[key] = terms

    def recall(self, command: Command, keys: int) -> tuple[Command | None, Decision] | None:
        """Return what goes to Redis instead of a call, or None in its place for the call as it came, and what is told.

        Args:
            command: the whole command.
            keys: its number of KEYS.

        Returns:
            That; None where it has to be decided.
        """
        time = command[self.time] if keys == self.keys and len(command) == self.elements else b""
        task = message.plain(command[self.message]) if time.isdigit() and len(time) <= MAX_DIGITS else None
        if task is None:
            return None
        task_type, _, _, own_seconds, traceparent, tracestate = task
        now, cap = int(time), b""
        if self.retains:
            now -= own_seconds  # in the call it is when the entry is due
        else:
            cap = command[self.cap] if self.cap else cap
            own_seconds = now - _seconds(command[self.cutoff]) if self.cutoff else self.own_seconds
        terms = self.terms.get(alike(command[self.index_key], task_type, own_seconds, cap))
        task_id = command[self.task_id]
        if terms is None or now < 0 or command[self.task_key] != terms.prefix + task_id:
            return None
        enforced, size = terms.decision.enforced, len(command[self.message])
        decision = terms.told(text_of(task_id), traceparent, tracestate, size, enforced=enforced)
        if not enforced:
            return None, decision
        tail, score = terms.fill(now, agrees=not terms.timed or self.clock.agrees(now))
        changed = [*command, tail]
        changed[1] = self.sha
        if score:
            changed[self.time] = score
        for number, value in terms.argv:
            changed[self.first_arg + number] = value
        return changed, decision


def _seconds(text: bytes) -> int:
    """Return a time in a call; where it is not plainly one, what no call is remembered with."""
    return int(text) if text.isdigit() and len(text) <= MAX_DIGITS else _NO_TIME
