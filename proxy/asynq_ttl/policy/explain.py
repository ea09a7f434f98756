"""What a policy does to one task, told to a person. Pure; what `asynq-ttl explain` prints.

It decides nothing itself: the rule named here is the one that `Policy.decide` names.
"""

from asynq_ttl.policy.archive_limits import ArchiveLimits
from asynq_ttl.policy.glob import Glob
from asynq_ttl.policy.rules import (
    FULL_ROLLOUT,
    OWN_ARCHIVE_CAP,
    OWN_ARCHIVE_SECONDS,
    Adopt,
    Keep,
    Mode,
    Policy,
    Retention,
    Rule,
    State,
)
from asynq_ttl.times import format_duration

# What Asynq does by itself (archivedExpirationInDays and maxArchiveSize in its internal/rdb/rdb.go).

_MODES = {
    Mode.ENFORCE: "enforce: decisions are carried out",
    Mode.SHADOW: "shadow: decisions are traced, nothing in Redis is changed",
    Mode.OFF: "off: every command passes untouched, nothing below happens",
}


def explain(policy: Policy, queue: str, task_type: str | None, state: State) -> list[str]:
    """Return, line by line, which rule decides about a task that enters a state, why, and what happens.

    Args:
        policy: the policy to ask.
        queue: the task's queue.
        task_type: the task's type name; None for a task whose message cannot be read.
        state: the terminal state that it enters; or `DONE`, for one that succeeds without a Retention.
    """
    lines = [
        f"task:    {_type(task_type)}, queue {queue}, {_enters(state)}",
        f"policy:  {policy.source}" + (f" ({policy.digest})" if policy.digest else ""),
        f"mode:    {_MODES[policy.mode]}",
        *_histories(policy),
        "rules:",
    ]
    verdict = policy.decide(queue, task_type, state)
    for number, rule in enumerate(policy.rules, start=1):
        reason = _reason_against(rule, queue, task_type, state)
        lines.append(f"  {number}. {rule.name}: {reason or 'decides'}")
        if reason is None:
            break
    if verdict is None:
        return [*lines, *_undecided(policy, queue, state)]
    lines.append(f"result:  rule {verdict.rule}")
    lines += [f"  {line}" for line in _consequences(policy, verdict.retention, state)]
    if verdict.retention.replaceable:
        lines.append("  on_conflict: an enqueue with its ID replaces it, instead of failing")
    limits = policy.archive_limits(queue)
    if state is State.DONE and not verdict.retention.lasts:
        return lines
    if state is State.COMPLETED:
        done = policy.decide(queue, task_type, State.DONE)
        kept = done is not None and done.retention.lasts
        other = "about any other `done` decides" if kept else "Asynq itself deletes any other at once"
        lines.append(f"  concerns: only a task with a Retention, {other}")
    elif state is State.ARCHIVED and limits is not None and verdict.retention.keep is not Keep.DELETE:
        lines.append(f"  {_cap(limits)}")
    return [*lines, f"  {_rollout(policy)}", f"  {_adopted(policy, verdict.retention, state)}"]


def _histories(policy: Policy) -> list[str]:
    """Return what becomes of the histories of scheduler entries, where the policy says something about them."""
    if policy.scheduler_history is None:
        return []
    kept = format_duration(policy.scheduler_history)
    return [f"besides: the history of a scheduler entry goes {kept} after its scheduler has added to it"]


def _enters(state: State) -> str:
    return "done without a Retention" if state is State.DONE else f"entering {state.value}"


def _type(task_type: str | None) -> str:
    return "a type that cannot be read" if task_type is None else f"type {task_type}"


def _reason_against(rule: Rule, queue: str, task_type: str | None, state: State) -> str | None:
    """Return why a rule does not decide; None where it does."""
    if not rule.matches_queue(queue):
        return f"passed over, queue {queue} does not match {_globs(rule.queues)}"
    if not rule.matches_type(task_type):
        return f"passed over, {_type(task_type)} does not match {_globs(rule.types)}"
    if rule.says(state) is None:
        return f"passed over, it says nothing about {state.value} tasks"
    return None


def _globs(globs: tuple[Glob, ...]) -> str:
    return " or ".join(glob.text for glob in globs)


def _consequences(policy: Policy, retention: Retention, state: State) -> list[str]:
    """Return what happens to the task's key and to its index entry."""
    grace = format_duration(policy.grace_seconds)
    if state is State.DONE:
        if not retention.lasts:
            return ["retention: none", "task key: deleted at once, as Asynq does"]
        return ["kept as: a completed task with this Retention", *_consequences(policy, retention, State.COMPLETED)]
    if retention.keep is Keep.DELETE:
        return ["retention: none", f"task key and entry in {state.value}: deleted at once"]
    if retention.keep is Keep.FOREVER:
        return ["retention: for ever", "key TTL: none", f"entry in {state.value}: stays"]
    if retention.keep is Keep.OWN and state is State.COMPLETED:
        return [
            "retention: the task's own Retention",
            f"key TTL: that Retention + {grace} grace",
            f"entry in {state.value}: removed with the key when the retention is over",
        ]
    seconds = retention.resolve(OWN_ARCHIVE_SECONDS) or 0
    kept = format_duration(seconds)
    own = " (Asynq's own time)" if retention.keep is Keep.OWN else ""
    return [
        f"retention: {kept}{own}",
        f"key TTL: {format_duration(seconds + policy.grace_seconds)} ({kept} retention + {grace} grace)",
        f"entry in {state.value}: removed with the key when the retention is over",
    ]


def _cap(limits: ArchiveLimits) -> str:
    """Return how the queue's archive is trimmed by number when something is archived."""
    if limits.cap is not None:
        cap = f"cap: the newest {limits.cap} archived tasks of this queue are kept"
    elif limits.uncapped:
        cap = "cap: none, a rule of this queue keeps tasks for ever"
    else:
        cap = f"cap: Asynq's own, the newest {OWN_ARCHIVE_CAP} archived tasks of this queue are kept"
    return cap + ("; those kept for ever are never trimmed" if limits.spare_untimed else "")


def _undecided(policy: Policy, queue: str, state: State) -> list[str]:
    """Return what becomes of a task that no rule decides about."""
    if state is State.DONE:
        return ["result:  no rule decides, Asynq deletes the task at once"]
    limits = policy.archive_limits(queue) if state is State.ARCHIVED else None
    if limits is None or (limits.cutoff_seconds is not None and limits.cutoff_seconds <= OWN_ARCHIVE_SECONDS):
        return ["result:  no rule decides, the task is forwarded untouched"]
    own = format_duration(OWN_ARCHIVE_SECONDS)
    ttl = format_duration(OWN_ARCHIVE_SECONDS + policy.grace_seconds)
    return [
        "result:  no rule decides",
        f"  retention: {own} (Asynq's own time)",
        f"  key TTL: {ttl}, since a rule of this queue keeps tasks for longer and Asynq's trim by age is off",
    ]


def _adopted(policy: Policy, retention: Retention, state: State) -> str:
    """Return what becomes of a task that ended in a way that no command tells of."""
    if state is State.DONE:
        return "adopt: no, past the sidecar Asynq deletes such a task at once"
    if policy.adopt is Adopt.OFF or retention.keep is Keep.FOREVER:
        return "adopt: no, a task that ended past the sidecar stays as it is"
    since = "since this sidecar began " if policy.adopt is Adopt.NEW else ""
    return f"adopt: a task that ended past the sidecar {since}gets the same from the sweeper"


def _rollout(policy: Policy) -> str:
    if policy.rollout >= FULL_ROLLOUT:
        return "rollout: 100%, every task"
    share = f"{policy.rollout / 100:.2f}".rstrip("0").rstrip(".")
    return f"rollout: {share}% of task IDs are enforced, the others are only traced"
