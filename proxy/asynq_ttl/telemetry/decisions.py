"""Decisions, noted one by one where they are made, and told many at once: counted, kept, traced, logged.

Most of what telling costs is the same for one decision as for a hundred. So where a decision is made it is only put at
the end of a list, and the list is told a moment later; or before that, when somebody looks, or when it is long.

Invariants:

* What is told, and in which order, is what telling each at once would come to: times are those of the decision.
* Nobody who looks finds less than was noted before: who reads what is kept here, or adds to it, has it told first.
* Bounded: `MOST_UNTOLD` decisions wait at most, and no set of labels grows with what clients send.
* A decision about many tasks is told at once, since these have to be searched for while they are there; and so is any
  where no event loop runs.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from asynq_ttl.events import Action, Outcome
from asynq_ttl.net.address import Address
from asynq_ttl.telemetry.bulk_operations import BulkOperations, OpenRedis
from asynq_ttl.telemetry.recent import Recent
from asynq_ttl.telemetry.spans import Spans
from asynq_ttl.telemetry.task_counts import TaskCounts

_log = logging.getLogger("asynq_ttl")

# Label values beyond these many sets are counted together, so that no queue or rule name can grow the metrics.
MAX_DECISION_SERIES = 1_000
OVERFLOW = "other"

# How long a decision waits, and how many do, until they are told.
_SECONDS = 0.02
MOST_UNTOLD = 500

_ACTION_NAMES = {action: action.value for action in Action}  # `value` is a property, in Python

DecisionKey = tuple[str, str, str, str, str]
DECISION_LABELS = ("asynq.queue", "asynq.task.state", "asynq_ttl.rule", "asynq_ttl.action", "asynq_ttl.mode")

_Kind = tuple[str, str, str, Action, bool, str, int | None]
"""Of a decision about one task: queue, state, rule, action, whether it is enforced, the task's type, and for how long
Asynq itself would keep it."""


class ObservedNode(Protocol):
    """A node of a cluster, by which what was done there is told."""

    @property
    def place(self) -> Address:
        """Where it is."""

    @property
    def redis(self) -> OpenRedis:
        """Opens a client of it."""


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
        self.counts: Counter[DecisionKey] = Counter()
        """Decisions that have been told, by queue, state, rule, action and mode."""
        self.task_counts = TaskCounts()
        """Their tasks."""
        self._spans = spans
        self._recent = recent
        self._bulk = bulk
        self._untold: list[_Noted] = []
        recent.before_reading(self.tell)

    def note(self, outcome: Outcome, at: ObservedNode | None) -> None:
        """Take note of a decision; `at` is the node of a cluster where it was carried out."""
        untold = self._untold
        untold.append((outcome, at, None if at is None else at.place))
        if not outcome.decision.task_id:
            self.tell()
        elif len(untold) == 1:
            try:
                asyncio.get_running_loop().call_later(_SECONDS, self.tell)
            except RuntimeError:
                self.tell()
        elif len(untold) >= MOST_UNTOLD:
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
        spans, debugging = self._spans, _log.isEnabledFor(logging.DEBUG)
        kinds: dict[_Kind, list[int]] = {}
        told: list[tuple[Outcome, str]] = []
        for outcome, at, server in untold:
            decision = outcome.decision
            (_, _, queue, state, action, enforced, task_id, task_type, rule, _, _, _, size_bytes, own_seconds, _) = (
                decision
            )
            if not task_id or own_seconds is None or not outcome.reply.startswith(b"+"):
                self._end(kinds, told)
                self._tell_apart(outcome, at, server)
                continue
            kind = queue, state, rule, action, enforced, task_type, own_seconds
            count = kinds.get(kind)
            if count is None:
                kinds[kind] = [1, size_bytes]
            else:
                count[0] += 1
                count[1] += size_bytes
            trace_id = ""
            if spans.on and (trace := spans.draw()):
                trace_id = spans.decided(outcome, "enforce" if enforced else "shadow", (), server, trace)
            told.append((outcome, trace_id))
            if debugging:
                _log_decision(outcome, trace_id)
        self._end(kinds, told)

    def _end(self, kinds: dict[_Kind, list[int]], told: list[tuple[Outcome, str]]) -> None:
        """Count and keep what has been told, and forget it here."""
        for (queue, state, rule, action, enforced, task_type, own_seconds), (tasks, size_bytes) in kinds.items():
            self._count((queue, state, rule, _ACTION_NAMES[action], "enforce" if enforced else "shadow"), tasks)
            self.task_counts.add_kind((queue, task_type, state, own_seconds or 0), tasks, size_bytes)
        kinds.clear()
        self._recent.add_told(told)
        told.clear()

    def _count(self, key: DecisionKey, number: int) -> None:
        if key not in self.counts and len(self.counts) >= MAX_DECISION_SERIES:
            key = (OVERFLOW, key[1], OVERFLOW, *key[3:])
        self.counts[key] += number

    def _tell_apart(self, outcome: Outcome, at: ObservedNode | None, server: Address | None) -> None:
        """Tell of a decision about many tasks, of an unknown one, or of one that Redis has refused."""
        decision = outcome.decision
        mode, action = "enforce" if decision.enforced else "shadow", _ACTION_NAMES[decision.action]
        self._count((decision.queue, decision.state, decision.rule, action, mode), 1)
        if not outcome.reply.startswith((b"-", b"!")):
            # The reply to a bulk operation is how many tasks it has moved.
            self.task_counts.add(decision, 1 if decision.own_seconds is not None else outcome.moved or 0)
        if not decision.task_id and outcome.moved:
            self._bulk.find(outcome, lambda found, moved: self._trace(found, moved, server), redis_of(at))
        else:
            self._trace(outcome, (), server)

    def _trace(self, outcome: Outcome, moved: Sequence[str], server: Address | None) -> None:
        """Keep a decision and make its span; `moved` are some of the tasks of a bulk operation."""
        mode = "enforce" if outcome.decision.enforced else "shadow"
        trace_id = self._spans.decided(outcome, mode, moved, server) if self._spans.on else ""
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
