"""What becomes of a task: which rule decides now, what happens next, and when. Pure.

What keeps a task beyond its time has its place here, in `_next_ended`, before all else: whatever a policy says, what is
kept stays.
"""

from dataclasses import dataclass

from asynq_ttl.asynq.keys import ambiguous
from asynq_ttl.asynq.task import ended_at
from asynq_ttl.existing_keys.standing import TERMINAL, standing_of
from asynq_ttl.existing_keys.why.find import Whereabouts
from asynq_ttl.existing_keys.why.words import from_now, shown
from asynq_ttl.policy.plan import Act, plan, verdict_of
from asynq_ttl.policy.rules import (
    FOREVER_RETENTION,
    OWN_ARCHIVE_CAP,
    OWN_ARCHIVE_SECONDS,
    Adopt,
    Keep,
    Mode,
    Policy,
    State,
    Verdict,
)
from asynq_ttl.times import moment


@dataclass(frozen=True, slots=True)
class Outlook:
    """What becomes of a task.

    Attributes:
        rules: by terminal state the name of the rule that decides now, and what it says; empty where no rule does.
        at: when the next thing happens, in Unix seconds; 0 where nobody knows, or nothing does.
        sentences: all that, in words.
    """

    rules: dict[str, dict[str, str]]
    at: int
    sentences: list[str]

    def as_json(self) -> dict[str, object]:
        """Return it as JSON."""
        return {"rules_now": self.rules, "next_at": moment(self.at), "next": self.sentences}


_ONCE = {
    State.COMPLETED: "Once it is completed,",
    State.ARCHIVED: "Once it is archived,",
    State.DONE: "Once it has succeeded without a Retention,",
}


def outlook(where: Whereabouts, now: int, policy: Policy | None) -> Outlook:
    """Return what becomes of a task.

    Args:
        where: what was found.
        now: Redis's time in Unix seconds.
        policy: the policy that decides; None where that is not known.
    """
    rules, told = _rules(where, policy)
    at, following = _next(where, now, policy)
    return Outlook(rules, at, [*told, *following])


def _rules(where: Whereabouts, policy: Policy | None) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return which rule decides now, as data and in words."""
    task = where.task
    if policy is None:
        return {}, ["Which rule decides now is not known: give --policy, or --admin."] if task.exists else []
    if not task.exists:
        return {}, []
    if ambiguous(where.queue):
        return {}, ["No rule decides about it: the keys of its queue can be read as those of another one."]
    rules: dict[str, dict[str, str]] = {}
    told = [f"The policy is {shown(policy.source)}" + (f" ({policy.digest})." if policy.digest else ".")]
    for state in [TERMINAL[task.state]] if task.state in TERMINAL else list(State):
        verdict = verdict_of(policy, where.queue, task.type, state)
        about_it = "Now" if task.state in TERMINAL else _ONCE[state]
        said = "no rule decides" if verdict is None else f"rule {shown(verdict.rule)} decides: {_said(verdict)}"
        if verdict is not None:
            rules[state.value] = {"rule": verdict.rule, "ttl": verdict.retention.text}
        told.append(f"{about_it} {said}.")
    told += _replaced(where, policy)
    if policy.mode is not Mode.ENFORCE:
        told.append(f"The policy is in mode {policy.mode.value}: nothing of that is carried out.")
    elif not policy.enforces(task.id):
        told.append("It is outside the rollout's share: nothing of that is carried out.")
    return rules, told


def _replaced(where: Whereabouts, policy: Policy) -> list[str]:
    """Say whether an enqueue with the ID of a task that has ended replaces it."""
    task = where.task
    if task.state not in TERMINAL or task.hold is not None:
        return []
    # Whether a completed task was kept by `done` is not read.
    state = TERMINAL[task.state]
    states = (State.COMPLETED, State.DONE) if state is State.COMPLETED else (state,)
    verdicts = [verdict_of(policy, where.queue, task.type, each) for each in states]
    said = [verdict is not None and verdict.retention.replaceable for verdict in verdicts]
    if not any(said):
        return []
    if policy.hands_over:
        return ["An enqueue with its ID is refused, whatever the rule says: with a sink nothing is replaced."]
    doubt = "" if all(said) else ", if the rule for it says so: that depends on whether `done` has kept it"
    return [f"An enqueue with its ID replaces it{doubt}."]


def _said(verdict: Verdict) -> str:
    keep = verdict.retention.keep
    if keep is Keep.DELETE:
        return "not kept at all"
    if keep is Keep.OWN:
        return "kept for Asynq's own time"
    return "kept for ever" if keep is Keep.FOREVER else f"kept for {verdict.retention.text}"


def _next(where: Whereabouts, now: int, policy: Policy | None) -> tuple[int, list[str]]:
    """Return when something happens next, and what."""
    task = where.task
    if where.taken:
        return 0, ["It is left alone until that key is renamed or deleted."]
    if not task.exists:
        return 0, ["A sidecar's sweeper drops the ghost."] if where.scores else []
    if task.state in TERMINAL:
        return _next_ended(where, TERMINAL[task.state], now, policy)
    if task.state in ("scheduled", "retry"):
        return _next_due(where, now)
    if task.state == "active":
        return _next_active(where, now)
    return 0, [_next_undated(where)]


def _next_undated(where: Whereabouts) -> str:
    """Return what happens next to a task, where nobody knows when."""
    task = where.task
    if task.state == "pending":
        return _next_pending(where)
    if task.state == "aggregating":
        group = task.record.group if task.record is not None else ""
        return f"It runs when its group {shown(group)} is aggregated."
    return "What becomes of it is not known: its state is none of Asynq's."


def _next_ended(where: Whereabouts, state: State, now: int, policy: Policy | None) -> tuple[int, list[str]]:
    """The same for a task that has ended."""
    task = where.task
    if task.hold is not None:
        held = f"It is held since {from_now(task.hold.since, now)}"
        return 0, [f"{held}: nobody removes it until `asynq-ttl release`, a run, or a deletion by hand."]
    if task.ttl_ms >= 0:
        return _next_timed(where, now, policy)
    if state is State.COMPLETED and task.record is not None and task.record.retention == FOREVER_RETENTION:
        return 0, ["Nothing removes it: `done` keeps it for ever, whatever the policy says now."]
    if policy is not None and policy.mode is Mode.ENFORCE and policy.enforces(task.id):
        verdict = verdict_of(policy, where.queue, task.type, state)
        if verdict is not None and verdict.retention.keep is Keep.FOREVER:
            return 0, [f"Nothing removes it: rule {shown(verdict.rule)} keeps it for ever."]
        planned = plan(policy, standing_of(task, state), now)
        if planned is not None:
            at = planned.expires_at if planned.act is Act.TTL else now
            told = f"By rule {shown(planned.rule)} it is {planned.reason}, but its key has no TTL."
            return at or 0, [f"{told} {_adopts(policy)}"]
    return _next_by_asynq(where, state, now)


def _next_timed(where: Whereabouts, now: int, policy: Policy | None) -> tuple[int, list[str]]:
    """The same where its key has a TTL."""
    expires = now + where.task.ttl_ms / 1000
    if policy is None:
        return int(expires), ["A sidecar's sweeper removes it, with its entry in the index, a grace before that."]
    due = expires - policy.grace_seconds
    first = "after the sink has taken it" if policy.hands_over else "in one step"
    removes = f"then a sidecar's sweeper removes hash, index entry and lock, {first}"
    return int(due), [
        f"Its time is over at {from_now(due, now)}: {removes}.",
        "If no sidecar sweeps, Redis removes the hash alone when the TTL is over.",
        *_capped(where, policy),
    ]


def _capped(where: Whereabouts, policy: Policy) -> list[str]:
    """Say what else may remove an archived task: there may be too many."""
    limits = policy.archive_limits(where.queue) if where.task.state == State.ARCHIVED.value else None
    if limits is None or (limits.cap is None and limits.uncapped):
        return []
    most = OWN_ARCHIVE_CAP if limits.cap is None else limits.cap
    return [f"It goes earlier if {most:,} newer tasks of this queue are archived."]


def _adopts(policy: Policy) -> str:
    """Say what the sweeper does about a task without a TTL."""
    if policy.adopt is Adopt.OFF:
        return "The policy says `adopt: off`: the sweeper leaves it alone; `asynq-ttl backfill` does not."
    if policy.adopt is Adopt.ALL:
        return "A sidecar's sweeper adopts it within a minute."
    return "A sidecar's sweeper adopts it if it ended since that sidecar began; `asynq-ttl backfill` does in any case."


def _next_by_asynq(where: Whereabouts, state: State, now: int) -> tuple[int, list[str]]:
    """The same where Asynq alone decides."""
    task = where.task
    if task.score is None:
        return 0, ["Nothing removes it: it has no TTL, and is in no index."]
    if state is State.COMPLETED:
        due = int(min(where.scores.get("completed", 0), 2**53))
        return due, [f"The janitor of a worker removes it at {from_now(due, now)}."]
    due = ended_at(task) + OWN_ARCHIVE_SECONDS
    told = f"from {from_now(due, now)} on, or when {OWN_ARCHIVE_CAP + 1:,} newer ones are archived"
    return due, [f"Asynq removes it when another task of this queue is archived: {told}. If none is, it stays."]


def _next_due(where: Whereabouts, now: int) -> tuple[int, list[str]]:
    """The same for a task that waits for its time."""
    due = where.scores.get(where.task.state)
    if due is None:
        return 0, ["Nothing moves it on: it is not in its index."]
    over = " That is over: a running worker of the queue moves it on within seconds." if due <= now else ""
    return int(min(due, 2**53)), [f"It becomes pending at {from_now(due, now)}.{over}"]


def _next_pending(where: Whereabouts) -> str:
    place = where.lists["pending"]
    paused = " The queue is paused: until it is resumed, no worker takes a task from it." if where.paused else ""
    if place.number:
        return f"The next worker that is free takes it, after {place.number - 1:,} other tasks.{paused}"
    if place.looked_at < place.length:
        return f"A worker takes it, after {place.looked_at:,} other tasks at least, if its ID is in the list.{paused}"
    return f"No worker takes it: its ID is not in the list.{paused}"


def _next_active(where: Whereabouts, now: int) -> tuple[int, list[str]]:
    """The same for a task that a worker has."""
    ends = where.scores.get("lease", where.scores.get("deadlines"))
    if ends is None:
        return 0, ["A worker has it, or had it: it has no lease, so no worker takes it back."]
    told = f"A worker has it, until {from_now(ends, now)} if it does not prolong its lease."
    if ends <= now:
        told = f"Its lease was over at {from_now(ends, now)}: a running worker of the queue retries or archives it."
    return int(ends), [told]
