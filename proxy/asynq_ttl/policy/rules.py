"""What a policy is and what it decides. Pure: no file, no clock, no Redis.

A policy is an ordered list of rules. For a task that enters a terminal state, the first rule that matches its
queue and type *and says something about that state* decides. Everything the sidecar does to a task follows
from that one `Verdict`.

Invariants:

* Without a verdict the command that moves the task is forwarded untouched.
* A verdict depends on nothing but the policy and (queue, type, state); the share of tasks that a rollout
  enforces depends on nothing but the task ID, so every sidecar of a fleet decides alike.
* The archive is trimmed per queue, while rules pick by type: `ArchiveLimits` never removes a task before the
  rule that decided about *it* would.
"""

import hashlib
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from asynq_ttl.policy.archive_limits import ArchiveLimits, HandoverCap
from asynq_ttl.policy.glob import Glob, all_covered
from asynq_ttl.times import format_duration

# Rollout shares are counted in hundredths of a percent.
FULL_ROLLOUT = 10_000

# How long, and how many, Asynq itself keeps archived tasks. (It says 10,000; its trim is off by one.)
OWN_ARCHIVE_SECONDS = 90 * 86_400
OWN_ARCHIVE_CAP = 9_999

# Verdicts are remembered for this many (queue, type, state); past it the memory is emptied and filled anew.
_MEMORY_LIMIT = 10_000


class State(Enum):
    """What a rule says something about: a terminal state, by its name in Asynq's `state` field; or `DONE`."""

    COMPLETED = "completed"
    ARCHIVED = "archived"
    DONE = "done"
    """A task that succeeded without a Retention. Asynq deletes it at once; kept by a rule it is a completed one."""

    __hash__ = object.__hash__  # there is one of each; Enum hashes the name, in Python, at every look-up


TERMINAL: Final = (State.COMPLETED, State.ARCHIVED)
"""The states that a task can be in."""


class Mode(Enum):
    """What the sidecar does with its decisions."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    OFF = "off"


class Adopt(Enum):
    """Which tasks the sweeper adopts: it gives those that ended without a TTL what the policy says."""

    NEW = "new"
    """Those that ended since the sidecar began."""
    ALL = "all"
    """All of them."""
    OFF = "off"
    """None."""


class Keep(Enum):
    """How long a task is kept in a terminal state."""

    TTL = "ttl"
    """A time given by the rule."""
    OWN = "keep"
    """Asynq's own time: the task's Retention, or 90 days for an archived one."""
    FOREVER = "forever"
    """No TTL, never trimmed."""
    DELETE = "delete"
    """Gone at once, hash and index entry."""

    __hash__ = object.__hash__  # as for State


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a rule keeps a task. `seconds` has a meaning only for `Keep.TTL`, where it is at least 1."""

    keep: Keep
    seconds: int = 0
    replaceable: bool = False  # by an enqueue with its ID, which is refused otherwise

    @property
    def text(self) -> str:
        """As it stands in a policy file: a duration, `keep`, `forever` or `delete`."""
        return format_duration(self.seconds) if self.keep is Keep.TTL else self.keep.value

    @property
    def lasts(self) -> bool:
        """Whether it is a time of the rule's own: neither Asynq's, nor none."""
        return self.keep in (Keep.TTL, Keep.FOREVER)

    def resolve(self, own_seconds: int) -> int | None:
        """Return the seconds to keep a task; None for ever, 0 not at all.

        Args:
            own_seconds: the time Asynq itself would keep it.
        """
        if self.keep is Keep.TTL:
            return self.seconds
        if self.keep is Keep.OWN:
            return max(own_seconds, 1)
        return None if self.keep is Keep.FOREVER else 0


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Empty `queues` or `types` match any; `None` says nothing about that state.

    `archived_max` caps the queue's archive (entries, exact) and is only allowed without `types`.
    """

    name: str
    queues: tuple[Glob, ...] = ()
    types: tuple[Glob, ...] = ()
    completed: Retention | None = None
    archived: Retention | None = None
    archived_max: int | None = None
    done: Retention | None = None

    def says(self, state: State) -> Retention | None:
        """Return what the rule says about a state, or None."""
        if state is State.DONE:
            return self.done
        return self.completed if state is State.COMPLETED else self.archived

    def replaces(self, state: State) -> bool:
        """Say whether an enqueue replaces a task that ended so."""
        return (retention := self.says(state)) is not None and retention.replaceable

    def matches_queue(self, queue: str) -> bool:
        """Say whether the rule can concern tasks of this queue."""
        return not self.queues or any(glob.matches(queue) for glob in self.queues)

    def matches_type(self, task_type: str | None) -> bool:
        """Say whether the rule concerns tasks of this type; None for one that cannot be read, which no glob matches."""
        return not self.types or (task_type is not None and any(glob.matches(task_type) for glob in self.types))

    def hides(self, later: "Rule", state: State) -> bool:
        """Say whether `later` can never decide about `state` because this rule comes first."""
        return (
            self.says(state) is not None
            and all_covered(self.queues, later.queues)
            and all_covered(self.types, later.types)
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about one task: which rule made it, and how long the task is kept."""

    rule: str
    retention: Retention


class Policy:
    """An immutable policy with a memory of the verdicts it has given.

    Args:
        rules: in the order in which they are tried.
        mode: what is done with the decisions.
        grace_seconds: how much longer than its retention a key lives if nobody sweeps.
        rollout: share of task IDs that are enforced, in hundredths of a percent.
        adopt: which tasks get their TTL from the sweeper, because no command gave them one.
        scheduler_history: for how many seconds the history of a scheduler entry lives after the scheduler has added to
            it; None for ever, as Asynq has it.
        source: where it came from, for messages and logs.
        digest: a short hash of its text, for logs, traces and the admin page.
        text: what was written, for whoever asks which policy is in force.
        hands_over: whether tasks are handed over before they go, so that no archiving may trim any.
    """

    def __init__(
        self,
        rules: tuple[Rule, ...],
        *,
        mode: Mode = Mode.ENFORCE,
        grace_seconds: int = 60,
        rollout: int = FULL_ROLLOUT,
        adopt: Adopt = Adopt.NEW,
        scheduler_history: int | None = None,
        source: str = "built-in",
        digest: str = "",
        text: str = "",
        hands_over: bool = False,
    ) -> None:
        self.rules = rules
        self.mode = mode
        self.grace_seconds = grace_seconds
        self.rollout = rollout
        self.adopt = adopt
        self.scheduler_history = scheduler_history
        self.source = source
        self.digest = digest
        self.text = text
        self.hands_over = hands_over
        self._verdicts: dict[tuple[str, str | None, State], Verdict | None] = {}
        self._queue_rules: dict[tuple[str, State], tuple[Rule, ...]] = {}
        self._limits: dict[str, ArchiveLimits | None] = {}

    def decide(self, queue: str, task_type: str | None, state: State) -> Verdict | None:
        """Return the verdict about a task of this queue and type entering a state; None without a rule.

        A type that cannot be read is None: only rules for every type decide about it.
        """
        key = (queue, task_type, state)
        try:
            return self._verdicts[key]
        except KeyError:
            pass
        verdict = None
        for rule in self.queue_rules(queue, state):
            retention = rule.says(state)
            if retention is not None and rule.matches_type(task_type):
                verdict = Verdict(rule.name, retention)
                break
        if len(self._verdicts) >= _MEMORY_LIMIT:
            self._verdicts.clear()
        self._verdicts[key] = verdict
        return verdict

    def queue_rules(self, queue: str, state: State) -> tuple[Rule, ...]:
        """Return the rules that can decide about tasks of a queue entering a state, in order.

        The tuple ends with the first rule that concerns every type: none after it can decide.
        """
        key = (queue, state)
        try:
            return self._queue_rules[key]
        except KeyError:
            pass
        found: list[Rule] = []
        for rule in self.rules:
            if rule.says(state) is None or not rule.matches_queue(queue):
                continue
            found.append(rule)
            if not rule.types:
                break
        if len(self._queue_rules) >= _MEMORY_LIMIT:
            self._queue_rules.clear()
        self._queue_rules[key] = tuple(found)
        return self._queue_rules[key]

    def concerns(self, queue: str) -> bool:
        """Say whether any rule can decide about tasks of this queue."""
        return any(self.queue_rules(queue, state) for state in TERMINAL) or self.keeps_done(queue)

    def keeps_done(self, queue: str) -> bool:
        """Say whether some task of this queue is kept that succeeds without a Retention."""
        return any(rule.done is not None and rule.done.lasts for rule in self.queue_rules(queue, State.DONE))

    @property
    def keeps_some_done(self) -> bool:
        """Whether some rule keeps tasks that succeed without a Retention."""
        return any(rule.done is not None and rule.done.lasts for rule in self.rules)

    def replaces(self, queue: str) -> bool:
        """Say whether some ended task of this queue is replaced by an enqueue with its ID."""
        return any(rule.replaces(state) for state in State for rule in self.queue_rules(queue, state))

    @property
    def replaces_some(self) -> bool:
        """Whether some rule says so."""
        return any(rule.replaces(state) for rule in self.rules for state in State)

    def archive_limits(self, queue: str) -> ArchiveLimits | None:
        """Return how the archive of a queue is trimmed; None where no rule says anything about it.

        While a rollout is under way, tasks outside its share live by Asynq's own limits, so these become
        lower bounds: nothing is trimmed earlier than Asynq would. Where tasks are handed over, nothing is
        trimmed at all.
        """
        try:
            return self._limits[queue]
        except KeyError:
            pass
        if len(self._limits) >= _MEMORY_LIMIT:
            self._limits.clear()
        rules = self.queue_rules(queue, State.ARCHIVED)
        self._limits[queue] = self._limits_of(rules) if rules else None
        return self._limits[queue]

    def handover_cap(self, queue: str) -> HandoverCap | None:
        """Return how many tasks the archive of a queue keeps where the oldest are handed over; None for any number."""
        rules = self.queue_rules(queue, State.ARCHIVED)
        if not rules:
            return None
        limits = self._own_limits_of(rules)
        if limits.cap is None and limits.uncapped:
            return None
        most = OWN_ARCHIVE_CAP if limits.cap is None else limits.cap
        return HandoverCap(most if self.enforces_all else max(most, OWN_ARCHIVE_CAP), limits.spare_untimed)

    def _limits_of(self, rules: tuple[Rule, ...]) -> ArchiveLimits:
        limits = self._own_limits_of(rules)
        return replace(limits, cutoff_seconds=None, cap=None, uncapped=True) if self.hands_over else limits

    def _own_limits_of(self, rules: tuple[Rule, ...]) -> ArchiveLimits:
        last = rules[-1]
        said = [rule.archived for rule in rules if rule.archived is not None]
        forever = any(retention.keep is Keep.FOREVER for retention in said)
        uncapped = last.archived_max is None and forever
        return ArchiveLimits(
            cutoff_seconds=None if forever else max(retention.seconds for retention in said),
            cutoff_own=not self.enforces_all or bool(last.types) or any(r.keep is Keep.OWN for r in said),
            cap=last.archived_max,
            uncapped=uncapped,
            spare_untimed=any(
                rule.archived is not None and rule.archived.keep is Keep.FOREVER for rule in rules if rule.types
            ),
        )

    def shadowed(self) -> "Policy":
        """Return the same policy in shadow mode; one that is off stays off."""
        return self._but(mode=Mode.OFF if self.mode is Mode.OFF else Mode.SHADOW)

    def handing_over(self, least_grace_seconds: int) -> "Policy":
        """Return what this policy comes to where each task is handed over before it goes.

        The grace leaves time for it, what is not kept at all is kept for a second, and no archiving trims.
        """
        return self._but(
            rules=tuple(
                replace(rule, completed=_at_least_a_second(rule.completed), archived=_at_least_a_second(rule.archived))
                for rule in self.rules
            ),
            grace_seconds=max(self.grace_seconds, least_grace_seconds),
            hands_over=True,
        )

    def _but(
        self,
        *,
        rules: tuple[Rule, ...] | None = None,
        mode: Mode | None = None,
        grace_seconds: int | None = None,
        hands_over: bool = False,
    ) -> "Policy":
        return Policy(
            self.rules if rules is None else rules,
            mode=mode or self.mode,
            grace_seconds=self.grace_seconds if grace_seconds is None else grace_seconds,
            rollout=self.rollout,
            adopt=self.adopt,
            scheduler_history=self.scheduler_history,
            source=self.source,
            digest=self.digest,
            text=self.text,
            hands_over=hands_over or self.hands_over,
        )

    @property
    def enforces_all(self) -> bool:
        """Whether the rollout is complete: every task is enforced."""
        return self.rollout >= FULL_ROLLOUT

    def enforces(self, task_id: bytes) -> bool:
        """Say whether a task is inside the share that the rollout enforces.

        The share is by the first 32 bits of the ID's SHA-1, the one hash that Lua inside Redis has too.
        """
        if self.enforces_all:
            return True
        digest = hashlib.sha1(task_id, usedforsecurity=False).digest()
        return int.from_bytes(digest[:4], "big") % FULL_ROLLOUT < self.rollout


DEFAULT_POLICY = Policy(
    (Rule("built-in", completed=Retention(Keep.OWN), archived=Retention(Keep.OWN)),),
    source="built-in default",
    text="version: 1\nrules:\n  - name: built-in\n    completed: {ttl: keep}\n    archived: {ttl: keep}\n",
)


def _at_least_a_second(retention: Retention | None) -> Retention | None:
    if retention is not None and retention.keep is Keep.DELETE:
        return replace(retention, keep=Keep.TTL, seconds=1)
    return retention


# A score that no clock reaches, for completed tasks that are kept for ever (9999-12-31T23:59:59Z).
FOREVER_SCORE = 253_402_300_799
# The Retention of a task that `done` keeps for ever: the longest that Go has, 292 years. Nothing shortens it.
FOREVER_RETENTION = 9_223_372_036

# What stands for the rule where none matches, but another rule of the queue outlasts Asynq's own trims.
UNMATCHED = "asynq"

SCHEDULER_HISTORY = "scheduler_history"
"""Stands for state and rule where not a task is concerned, but the history of a scheduler entry."""
