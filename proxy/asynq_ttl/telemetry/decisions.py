"""Decisions, noted one by one where they are made, and told many at once: counted, kept, traced, logged.

Most of what telling costs is the same for one decision as for a hundred. So where a decision is made it is only put at
the end of a list, and the list is told a moment later; or before that, when somebody looks, or when it is long. What it
counts towards, and what its span says besides the task, depends on its kind alone, and is remembered for each.

Invariants:

* What is told, and in which order, is what telling each at once would come to: times are those of the decision.
* Nobody who looks finds less than was noted before: who reads what is kept here, or adds to it, has it told first.
* Bounded: `MOST_UNTOLD` decisions wait at most, and neither the sets of labels nor the kinds that are remembered grow
  with what clients send.
* A decision about many tasks is told at once, since these have to be searched for while they are there; and so is any
  where no event loop runs.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from asynq_ttl.events import Action, Decision, Outcome
from asynq_ttl.net.address import Address
from asynq_ttl.telemetry.bulk_operations import BulkOperations, OpenRedis
from asynq_ttl.telemetry.recent import MAX_TEXTS, Recent
from asynq_ttl.telemetry.spans import DrawnIds, Spans
from asynq_ttl.telemetry.task_counts import TaskCounts

_log = logging.getLogger("asynq_ttl")

# Label values beyond these many sets are counted together, so that no queue or rule name can grow the metrics.
MAX_DECISION_SERIES = 1_000
OVERFLOW = "other"

# Kinds of decisions that are remembered; past it all are forgotten, and their numbers kept.
_MAX_KINDS = 5_000

# How long a decision waits, and how many do, until they are told.
_SECONDS = 0.02
MOST_UNTOLD = 500

_ACTION_NAMES = {action: action.value for action in Action}  # `value` is a property, in Python

DecisionKey = tuple[str, str, str, str, str]
DECISION_LABELS = ("asynq.queue", "asynq.task.state", "asynq_ttl.rule", "asynq_ttl.action", "asynq_ttl.mode")


class ObservedNode(Protocol):
    """A node of a cluster, by which what was done there is told."""

    @property
    def place(self) -> Address:
        """Where it is."""

    @property
    def redis(self) -> OpenRedis:
        """Opens a client of it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Kind:
    """Decisions about one task each that differ in nothing but the task, its times, its trace, its size and where.

    Attributes:
        mode: enforce or shadow.
        decisions: how many there are with the same labels.
        tasks: how many tasks of their kind there are, and how many bytes these have.
        longest: how long a task ID may be, in characters, to be kept as it is.
    """

    mode: str
    decisions: list[int]
    tasks: list[int]
    longest: int


_Key = tuple[tuple[object, ...], tuple[object, ...], int | None]
"""What kinds are told apart by: fields of a decision."""

_Noted = tuple[Outcome, ObservedNode | None, Address | None]
"""A decision, the node of a cluster where it was carried out, and where that was then."""


class Decisions:
    """Notes decisions, and tells them.

    Args:
        spans: makes their spans.
        recent: keeps them.
        bulk: finds the tasks of those that are about many.
    """

    def __init__(self, spans: Spans, recent: Recent, bulk: BulkOperations) -> None:
        self.task_counts = TaskCounts()
        """Their tasks."""
        self._spans = spans
        self._recent = recent
        self._bulk = bulk
        self._untold: list[_Noted] = []
        self._counts: dict[DecisionKey, list[int]] = {}
        self._kinds: dict[_Key, _Kind] = {}
        recent.before_reading(self.tell)

    @property
    def counts(self) -> Counter[DecisionKey]:
        """Decisions that have been told, by queue, state, rule, action and mode."""
        return Counter({key: number for key, (number,) in list(self._counts.items())})

    def note(self, outcome: Outcome, at: ObservedNode | None = None) -> None:
        """Take note of a decision; `at` is the node of a cluster where it was carried out."""
        untold = self._untold
        untold.append((outcome, at, None if at is None else at.place))
        if not outcome.decision.task_id or len(untold) >= MOST_UNTOLD:
            self.tell()
        elif len(untold) == 1:
            try:
                asyncio.get_running_loop().call_later(_SECONDS, self.tell)
            except RuntimeError:
                self.tell()

    def tell(self) -> None:
        """Tell what is not told yet."""
        while self._untold:
            untold, self._untold = self._untold, []
            try:
                self._tell(untold)
            except Exception:  # noqa: BLE001 - a bug costs these, not what comes later
                _log.exception("telemetry cannot tell of some of %s decisions", len(untold))

    def _tell(self, untold: Sequence[_Noted]) -> None:
        spans, kinds, bound = self._spans, self._kinds, self._spans.bound
        debugging = _log.isEnabledFor(logging.DEBUG)
        told: list[tuple[Outcome, str]] = []
        for (outcome, at, server), drawn in zip(untold, spans.draw(len(untold)), strict=True):
            decision = outcome[0]
            # By position, since by name each takes three times as long: all but the task, its trace and its size.
            key = decision[:6], decision[7:10], decision[13]
            kind = None if outcome[4] != b"+OK" else kinds.get(key) or self._kind_of(decision, key)
            if kind is None or not 0 < len(decision[6]) <= kind.longest:
                self._end(told)
                self._tell_apart(outcome, at, server, drawn)
                continue
            kind.decisions[0] += 1
            tasks = kind.tasks
            tasks[0] += 1
            tasks[1] += decision[12]
            trace_id = spans.decided(outcome, kind.mode, (), server, drawn, kind=kind) if drawn[0] < bound else ""
            told.append((outcome, trace_id))
            if debugging:
                _log_decision(outcome, trace_id)
        self._end(told)

    def _end(self, told: list[tuple[Outcome, str]]) -> None:
        """Keep what has been told, and forget it here."""
        self._recent.add_short(told)
        told.clear()

    def _kind_of(self, decision: Decision, key: _Key) -> _Kind | None:
        """Remember the kind of a decision; None where its like is told apart."""
        _, _, queue, state, action, enforced = decision[:6]
        longest = MAX_TEXTS - len(queue) - len(decision.task_type)
        if decision.own_seconds is None or not decision.task_id or longest <= 0:
            return None
        if len(self._kinds) >= _MAX_KINDS:
            self._kinds.clear()
        mode = "enforce" if enforced else "shadow"
        decisions = self._series((queue, state, decision.rule, _ACTION_NAMES[action], mode))
        tasks = self.task_counts.pair((queue, decision.task_type, state, decision.own_seconds))
        kind = self._kinds[key] = _Kind(mode, decisions, tasks, longest)
        return kind

    def _series(self, key: DecisionKey) -> list[int]:
        """Return the number of decisions with such labels, for counting."""
        if key not in self._counts and len(self._counts) >= MAX_DECISION_SERIES:
            key = (OVERFLOW, key[1], OVERFLOW, *key[3:])
        return self._counts.setdefault(key, [0])

    def _tell_apart(self, outcome: Outcome, at: ObservedNode | None, server: Address | None, drawn: DrawnIds) -> None:
        """Tell of a decision about many tasks, of an unknown one, or of one that Redis has refused."""
        decision = outcome.decision
        mode, action = "enforce" if decision.enforced else "shadow", _ACTION_NAMES[decision.action]
        self._series((decision.queue, decision.state, decision.rule, action, mode))[0] += 1
        if not outcome.reply.startswith((b"-", b"!")):
            # The reply to a bulk operation is how many tasks it has moved.
            self.task_counts.add(decision, 1 if decision.own_seconds is not None else outcome.moved or 0)
        if not decision.task_id and outcome.moved:
            self._bulk.find(outcome, lambda found, moved: self._trace(found, moved, server), redis_of(at))
        else:
            self._trace(outcome, (), server, drawn)

    def _trace(
        self, outcome: Outcome, moved: Sequence[str], server: Address | None, drawn: DrawnIds | None = None
    ) -> None:
        """Keep a decision and make its span; `moved` are some of the tasks of a bulk operation."""
        mode = "enforce" if outcome.decision.enforced else "shadow"
        trace_id = self._spans.decided(outcome, mode, moved, server, drawn)
        self._recent.add_told([(outcome, trace_id)])
        if _log.isEnabledFor(logging.DEBUG):
            _log_decision(outcome, trace_id)


def redis_of(at: ObservedNode | None) -> OpenRedis | None:
    """Return what opens a client of a node; None without a cluster."""
    return at.redis if at is not None else None


def server_of(at: ObservedNode | None) -> Address | None:
    """Return where a node is; None without a cluster."""
    return at.place if at is not None else None


def _log_decision(outcome: Outcome, trace_id: str) -> None:
    decision = outcome.decision
    where = f" in queue {decision.queue}" if decision.queue else ""
    mode = "enforce" if decision.enforced else "shadow"
    words = decision.operation, where, decision.rule or "none", _ACTION_NAMES[decision.action], mode
    _log.debug("%s%s: rule %s, %s (%s)", *words, extra={"trace_id": trace_id})
