"""Decides, from all the evidence, whether anything went wrong.

The evidence: the IDs that Asynq's clients were told are accepted; how each attempt ended, by the handlers; what
operators asked for; the kills; what Redis wrote, step by step (`history`); and looks at the keyspace while all of it
went on and when it was over (`census`). What is proved:

* Every accepted task is kept by a rule, or has come to an end that it may come to: worked off with success; gone by the
  rule of its type, or when its time was over and not earlier; or deleted by an operator; or, where its rule says so and
  nobody holds it, replaced when it had ended. One that succeeded without a Retention is gone at once only where no
  `done` rule keeps it.
* An ID came to a task as often as a client was told so: what replaces a task is not lost.
* What is held has no TTL and comes to no end but by an operator; what was held where operators change nothing is there.
* At the end of every single step that Redis took: no half task, no live task with a TTL, no terminal task without one.
* At every look: no orphan, no entry of a live state without its task. A ghost of a terminal state only where the
  backstop fired, and that only where no sweeper was at work in the last `grace` of the task, because of a kill; and
  only until sweepers have come by every queue again.
* No script raised an error, but where such a ghost was.
* At the end: nothing is unfinished, and after one sweep no ghosts; when all times are over, only what is kept for ever.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field

from trials.chaos.census import Census, Fault
from trials.chaos.history import End, Ending, History, Life
from trials.chaos.policy import (
    GRACE_SECONDS,
    LOCK_SECONDS,
    SWEEP_SECONDS,
    TERMINAL,
    VAULT,
    kept_when_done,
    replaced,
    retention,
)
from trials.chaos.traffic import Operation

# The scores by which Asynq's janitor goes are whole seconds, rounded down.
_EARLY_MS = 1100
# How long an operation may still take effect after its client has given it up.
_LATE_MS = 2000
# A sweep that began this long before a kill may have been cut off.
_ROUND_MS = 500
_KEPT = "its rule keeps it"
# What Redis and Valkey say where a script raises an error.
_SCRIPT_ERROR = "user_script"
# From a kill on, this long there may be no sweep: the lock of the dead runs out, and a sidecar starts.
_NO_SWEEP_MS = round((LOCK_SECONDS + GRACE_SECONDS + 4 * SWEEP_SECONDS + 4) * 1000)
# In so many rounds without a kill a sweeper comes by every queue twice. One that has just started first has to see a
# command of a queue that is not listed.
_HEALING_ROUNDS = 12


@dataclass(frozen=True, slots=True)
class Look:
    """A look at the keyspace while things went on: when (milliseconds since the epoch), and the faults seen."""

    at_ms: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything a verdict rests on.

    Attributes:
        accepted: the queue of each accepted task.
        times: how often a client was told that a task with an ID has been added, where that may be more than once.
        refusals: why tasks were not accepted at first.
        outcomes: by task, how its attempts ended.
        operations: what operators asked for.
        kill_ms: when something was killed or came back.
        history: what Redis wrote.
        looks: looks at the keyspace during the chaos.
        swept: the keyspace one sweep after everything was finished.
        over: the keyspace after the times of all tasks are over.
        held: the tasks of the vault of which `asynq-ttl hold` said that they are held.
    """

    accepted: dict[str, str]
    refusals: list[str]
    outcomes: dict[str, set[str]]
    operations: list[Operation]
    kill_ms: list[int]
    history: History
    looks: list[Look]
    swept: list[Census]
    over: list[Census]
    held: set[str] = field(default_factory=set)
    times: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many accepted tasks came to which end; the ghosts seen, and why they were there; and what was wrong."""

    ends: Counter[str]
    ghosts: Counter[str]
    faults: list[Fault]


def judge(evidence: Evidence) -> Verdict:
    """Weigh the evidence."""
    faults = list(evidence.history.faults)
    ends = Counter[str]()
    kept = {(census.queue, task_id) for census in evidence.over for task_id in census.tasks}
    held = {task_id for census in evidence.over for task_id, task in census.tasks.items() if task.held}
    faults += [Fault("not held", VAULT, task_id, "it was held, and is not") for task_id in evidence.held - held]
    for task_id, queue in evidence.accepted.items():
        end, fault = _end(evidence, task_id, queue, here=(queue, task_id) in kept)
        ends[end] += 1
        faults += [Fault("lost", queue, task_id, fault)] if fault else []
    for task_id, life in evidence.history.lives.items():
        faults += _improper_ends(evidence, task_id, life)
    lives = evidence.history.lives
    faults += [
        Fault("lost", lives[task_id].queue, task_id, f"added {times} times, and Redis wrote {lives[task_id].births}")
        for task_id, times in evidence.times.items()
        if task_id in lives and times > lives[task_id].births
    ]
    ghosts, unexplained = _ghosts(evidence)
    raised, unexplained_errors = _script_errors(evidence)
    if raised:
        ghosts["made a script of Asynq fail"] = raised
    faults += unexplained + unexplained_errors + _leftovers(evidence)
    return Verdict(ends, ghosts, faults)


def _end(evidence: Evidence, task_id: str, queue: str, *, here: bool) -> tuple[str, str]:
    """Return what an accepted task came to, and what is wrong with that."""
    life = evidence.history.lives.get(task_id)
    if life is None:
        return "lost", "accepted, but Redis never wrote it"
    if here or life.state:
        return (
            f"held {life.state}" if life.held else f"kept {life.state}",
            "" if here and life.state else f"here: {here}, but by what was written: {life.state!r}",
        )
    return life.endings[-1].end.value, "" if queue == life.queue else f"in queue {life.queue}"


def _improper_ends(evidence: Evidence, task_id: str, life: Life) -> list[Fault]:
    """Return what is wrong with the ends of a task."""
    found = []
    for ending in life.endings:
        wrong = _wrong(evidence, task_id, life, ending)
        if wrong:
            found.append(Fault("improper-end", life.queue, task_id, f"{ending.end.value} ({ending.state}): {wrong}"))
    return found


def _wrong(evidence: Evidence, task_id: str, life: Life, ending: Ending) -> str:
    """Say what is wrong with one end; nothing if it is as it may be."""
    over_ms = (ending.due_ms or 0) - GRACE_SECONDS * 1000
    early_ms = min(over_ms, ending.over_ms or over_ms) - ending.when.before_ms
    in_time = ending.due_ms is not None and (early_ms <= _EARLY_MS or ending.released)
    if ending.end in (End.DONE, End.LEFT):
        well = "ok" in evidence.outcomes.get(task_id, ())
        kept = ending.end is End.DONE and kept_when_done(task_id)
        return _KEPT if kept else "" if well else "no attempt ended well"
    if ending.end in (End.DELETED, End.REPLACED):
        return "" if _goes(task_id, ending) else _KEPT
    if ending.end is End.EXPIRED and in_time:
        return _unswept(evidence, life, ending)
    if (ending.end is End.SWEPT and in_time) or _asked_for(evidence, task_id, life.queue, ending):
        return ""
    if ending.overdue:
        return _unswept(evidence, life, ending)
    return "nobody asked for it, and " + (f"{early_ms} ms too early" if ending.due_ms else "it had no TTL")


def _goes(task_id: str, ending: Ending) -> bool:
    """Say whether its rule has a task go in the step that ends it, or in the one that adds another."""
    if ending.end is End.DELETED:
        return retention(task_id, ending.state) == 0
    return replaced(task_id) and ending.state in TERMINAL and not ending.held


def _asked_for(evidence: Evidence, task_id: str, queue: str, ending: Ending) -> bool:
    """Say whether an operator asked for this deletion at that time (whether or not the answer came back)."""
    first, last = ending.when.after_ms, ending.when.before_ms
    return any(
        operation.op in ("delete_task", "delete_all")
        and operation.queue == queue
        and (operation.task_id == task_id or operation.state == ending.state)
        and operation.began * 1000 <= last
        and first <= operation.ended * 1000 + _LATE_MS
        for operation in evidence.operations
    )


def _unswept(evidence: Evidence, life: Life, ending: Ending) -> str:
    """Say what is wrong with a TTL that fired: it is there for when nobody sweeps, and somebody must be to blame."""
    due_ms = ending.due_ms or 0
    if not _killed(evidence.kill_ms, due_ms - _NO_SWEEP_MS, due_ms):
        return "the backstop fired although nothing had been killed"
    first = _rounds_before(life, due_ms - GRACE_SECONDS * 1000 + _ROUND_MS)
    last = bisect_left(life.rounds, due_ms - 2 * _ROUND_MS, key=lambda began: began.before_ms)
    for began in life.rounds[first:last]:
        if not _killed(evidence.kill_ms, began.after_ms - _ROUND_MS, began.before_ms + 2 * _ROUND_MS):
            return f"the backstop fired although a sweep began {due_ms - began.after_ms} ms before"
    return ""


def _rounds_before(life: Life, at_ms: int) -> int:
    """Return how many rounds may have begun before a moment."""
    return bisect_left(life.rounds, at_ms, key=lambda began: began.after_ms)


def _killed(kill_ms: list[int], first: int, last: int) -> bool:
    place = bisect_left(kill_ms, first)
    return place < len(kill_ms) and kill_ms[place] <= last


def _ghosts(evidence: Evidence) -> tuple[Counter[str], list[Fault]]:
    """Explain the ghosts seen while things went on; return how many of which kind, and what is unexplained."""
    seen, unexplained = Counter[str](), []
    for look in evidence.looks:
        for fault in look.faults:
            if fault.kind == "ghost" and _expired(evidence, fault.task_id, look.at_ms, look.at_ms):
                seen["expired when nobody swept"] += 1
            elif fault.kind == "overtimed" and _was_released(evidence, fault.task_id):
                continue  # its time was over, so it has a minute left until somebody comes
            else:
                unexplained.append(fault)
    return seen, unexplained


def _was_released(evidence: Evidence, task_id: str) -> bool:
    """Say whether a task was released in the state that it is in, or has come to its end in."""
    life = evidence.history.lives.get(task_id)
    return life is not None and (life.released or any(ending.released for ending in life.endings))


def _expired(evidence: Evidence, task_id: str, first_ms: int, last_ms: int) -> bool:
    """Say whether a task's TTL fired before or in a span of time, and so that a ghost could still be there."""
    life = evidence.history.lives.get(task_id)
    if life is None:
        return False
    fired = [ending.due_ms or 0 for ending in life.endings if ending.end is End.EXPIRED or ending.overdue]
    return any(
        due_ms <= last_ms and (due_ms >= first_ms - _NO_SWEEP_MS or not _healed(evidence, life, due_ms, first_ms))
        for due_ms in fired
    )


def _healed(evidence: Evidence, life: Life, due_ms: int, at_ms: int) -> bool:
    """Say whether the ghost of a TTL that fired must be gone at a later moment.

    That is known by the rounds there were since, not by the time: a sidecar may take long to start.
    """
    before = bisect_right(evidence.kill_ms, at_ms)
    since_ms = max(due_ms, evidence.kill_ms[before - 1] if before else 0)
    return _rounds_before(life, at_ms) - _rounds_before(life, since_ms) > _HEALING_ROUNDS


def _script_errors(evidence: Evidence) -> tuple[int, list[Fault]]:
    """Explain the errors that scripts raised: some of Asynq's do where there is a ghost, and no others may.

    Returns how many were due to ghosts, and the others.
    """
    found = [Fault("script-error", "", "", error) for error in evidence.refusals if _SCRIPT_ERROR in error]
    explained = 0
    for operation in evidence.operations:
        if _SCRIPT_ERROR in operation.error:
            span = (round(operation.began * 1000), round(operation.ended * 1000))
            lives = evidence.history.lives.items()
            if any(life.queue == operation.queue and _expired(evidence, task_id, *span) for task_id, life in lives):
                explained += 1
            else:
                found.append(Fault("script-error", operation.queue, operation.task_id, operation.error))
    return explained, found


def _leftovers(evidence: Evidence) -> list[Fault]:
    """Return what should not be there any more when all was over."""
    faults = [fault for census in (*evidence.swept, *evidence.over) for fault in census.faults()]
    faults += [
        Fault("stuck", census.queue, "", f"{census.unfinished} unfinished, {dict(census.states())}")
        for census in (*evidence.swept, *evidence.over)
        if census.unfinished
    ]
    for census in evidence.over:
        faults += [
            Fault("overdue", census.queue, task_id, f"still {task.state} when its time was over")
            for task_id, task in census.tasks.items()
            if task.state in TERMINAL and retention(task_id, task.state) is not None and not task.held
        ]
    return faults
