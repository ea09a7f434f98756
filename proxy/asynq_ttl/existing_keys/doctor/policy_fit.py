"""Checks whether a policy fits the tasks that exist: its globs their queues and types, its times their locks. Pure."""

from collections.abc import Iterable, Iterator

from asynq_ttl.existing_keys.doctor.sample import Kind, Sample
from asynq_ttl.existing_keys.findings import Finding, Severity
from asynq_ttl.policy.plan import verdict_of
from asynq_ttl.policy.rules import OWN_ARCHIVE_SECONDS, TERMINAL, Keep, Policy, Rule, State
from asynq_ttl.times import format_duration

_SHOWN = 5


def check_globs(policy: Policy, sample: Sample) -> Iterator[Finding]:
    """Name rules that match no task, and queues and types that no rule matches."""
    looked = "" if sample.whole else f" (of {sample.tasks:,} tasks looked at)"
    idle = _idle_rules(policy, sample)
    if idle:
        what = f"rules that match no task{looked}: {', '.join(idle)}"
        why = "a typing error in a glob looks like this; so does a type that is rare"
        advice = "compare with the queues and types there are"
        seen = [f"{queue}: {task_type}" for queue, task_type in sorted(sample.kinds)][:_SHOWN]
        yield Finding("idle-rules", Severity.WARNING, what, why, advice, examples=seen)
    bare = [
        f"{queue}: {task_type} ({state.value})"
        for queue, task_type in sorted(sample.kinds)
        for state in TERMINAL
        if verdict_of(policy, queue, task_type, state) is None
    ]
    if bare:
        what = f"queues and types that no rule decides about{looked}"
        why = "such tasks get no TTL: Asynq alone decides"
        advice = "end the policy with a rule without match"
        yield Finding("unmatched-types", Severity.NOTICE, what, why, advice, len(bare), bare[:_SHOWN])
    if not idle and not bare:
        what = f"each rule that keeps tasks matches one, and each of {len(sample.kinds)} types a rule{looked}"
        yield Finding("policy", Severity.FINE, what, "", "")


def check_times(policy: Policy, sample: Sample) -> Iterator[Finding]:
    """Name types whose archived tasks go before a uniqueness lock ends, or before the next attempt of another task."""
    locks = list(_shorter(policy, sample.locks.items()))
    if locks:
        what = "types that are archived for less time than their uniqueness lock takes"
        why = "the lock is freed with the archived task, so the same task can be enqueued again before its lock ends"
        advice = "keep archived tasks for at least as long as Unique says, if uniqueness has to outlive a failure"
        yield Finding("shorter-than-lock", Severity.WARNING, what, why, advice, len(locks), locks[:_SHOWN])
    waits = list(_shorter(policy, sample.waits.items()))
    if waits:
        what = "types that are archived for less time than their wait for a retry takes"
        why = "a failure is forgotten before another task of its kind has had its next attempt"
        advice = "keep archived tasks for longer than a retry may wait"
        yield Finding("shorter-than-retry", Severity.NOTICE, what, why, advice, len(waits), waits[:_SHOWN])


def _idle_rules(policy: Policy, sample: Sample) -> list[str]:
    """Return the rules that match no task of the sample, but would if there were one: they do not delete at once."""
    if not sample.kinds:
        return []
    return [
        rule.name
        for rule in policy.rules
        if _leaves_tasks(rule)
        and not any(rule.matches_queue(queue) and rule.matches_type(task_type) for queue, task_type in sample.kinds)
    ]


def _leaves_tasks(rule: Rule) -> bool:
    """Say whether a rule leaves tasks for some time. Of those without a Retention only a time of its own does."""
    ended = (rule.archived, rule.completed)
    return any(said is not None and said.keep is not Keep.DELETE for said in ended) or bool(
        rule.done and rule.done.lasts
    )


def _shorter(policy: Policy, times: Iterable[tuple[Kind, int]]) -> Iterator[str]:
    """Yield, in words, the queues and types whose archived tasks are kept for less than so many seconds."""
    for (queue, task_type), seconds in times:
        verdict = verdict_of(policy, queue, task_type, State.ARCHIVED)
        kept = verdict.retention.resolve(OWN_ARCHIVE_SECONDS) if verdict else None
        if verdict is not None and kept is not None and kept < seconds:
            said = "deleted" if verdict.retention.keep is Keep.DELETE else f"kept for {format_duration(kept)}"
            yield f"{queue}: {task_type} is {said} by rule {verdict.rule}, against {format_duration(seconds)}"
