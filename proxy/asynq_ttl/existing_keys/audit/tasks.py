"""Counts the tasks that an audit reads: their states, ages and ends, and what is wrong with each. Pure.

Sees one task at a time. Whether a live task that no sorted set holds is in a list is for its caller to find out.
"""

from asynq_ttl.asynq.keys import text_of
from asynq_ttl.asynq.message import TaskRecord
from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.audit.counts import NEVER, Group, Tally
from asynq_ttl.existing_keys.audit.forecast import ARRIVAL_DAYS, HORIZON_DAYS
from asynq_ttl.existing_keys.standing import LIVE, TERMINAL, is_dated, standing_of
from asynq_ttl.policy.plan import Act, Plan, Standing, plan, verdict_of
from asynq_ttl.policy.rules import OWN_ARCHIVE_SECONDS, Keep, Policy, State, Verdict

_DAY = 86_400


class TaskCounter:
    """Counts tasks.

    Args:
        tally: where.
        policy: the policy that the forecast supposes.
        now: when the audit began, in Unix seconds.
    """

    def __init__(self, tally: Tally, policy: Policy, now: int) -> None:
        self._tally = tally
        self._policy = policy
        self._now = now

    def count(self, task: Task) -> None:
        """Count a task that exists."""
        group = self._tally.group(task.queue, task.state)
        content = content_bytes(task)
        group.add_task(content, timed=task.ttl_ms >= 0, locked=task.locked)
        example = f"{task.queue}: {text_of(task.id)}"
        if task.size == 0:
            self._tally.add_problem("half", example)
        elif task.record is None:
            self._tally.add_problem("unreadable", example)
        elif task.state in TERMINAL:
            self._count_terminal(group, task, content)
        else:
            self._count_live(group, task, task.record)

    def _count_live(self, group: Group, task: Task, record: TaskRecord) -> None:
        example = f"{task.queue}: {text_of(task.id)} is"
        if task.pending_since:
            group.add_age(max(self._now - task.pending_since, 0))
        elif task.state == "retry" and record.last_failed_at:
            group.add_age(max(self._now - record.last_failed_at, 0))
        if task.state not in LIVE:
            self._tally.add_problem("unreadable", f"{example} in state {task.state!r}")
        elif task.ttl_ms >= 0:
            self._tally.add_problem("live-ttl", f"{example} {task.state}, {task.ttl_ms // 1000} s left")

    def _count_terminal(self, group: Group, task: Task, content: int) -> None:
        """Count a task that is archived or completed, and when it ends."""
        state = TERMINAL[task.state]
        example = f"{task.queue}: {text_of(task.id)}"
        if task.locked and state is State.ARCHIVED:
            self._tally.add_problem("archived-lock", example)
        if task.nowhere:
            group.add_orphan()
            self._tally.add_problem("orphan", f"{example} is {task.state}")
        standing = standing_of(task, state)
        since = standing.since
        if since > 0:
            group.add_age(max(self._now - since, 0))
        if task.hold is not None:
            # Nothing ends it, and none like it arrives.
            group.add_held()
            group.own.add(NEVER, content)
            group.policy.add(NEVER, content)
            return
        planned = plan(self._policy, standing, self._now)
        undated = self._is_undated(standing, task)
        if undated or (planned is not None and planned.act in (Act.TTL, Act.REMOVE)):
            self._tally.add_problem("untimed", example)
        if undated:
            self._tally.add_problem("undated", example)
        own, policy = self._ends(standing, task.ttl_ms, planned)
        group.own.add(_day(own, self._now), content)
        group.policy.add(_day(policy, self._now), content)
        # What is overdue stands for nothing: it depends on who removes it when.
        if 0 <= self._now - since < ARRIVAL_DAYS * _DAY and (own is None or own > self._now):
            lives = _life(None if own is None else own - since), _life(self._policy_life(standing, own))
            group.add_arrival(*lives, content)

    def _ends(self, task: Standing, ttl_ms: int, planned: Plan | None) -> tuple[int | None, int | None]:
        """Return when a task ends under Asynq alone, and when under the policy, in Unix seconds; None for never.

        A sweeper removes it when its retention is over, so the grace is no part of its life.
        """
        expires = self._now + ttl_ms // 1000 - self._policy.grace_seconds if task.timed else None
        own = None
        if task.score is not None:
            own = task.score if task.state is State.COMPLETED else task.score + OWN_ARCHIVE_SECONDS
        if expires is not None:
            own = expires if own is None else min(own, expires)
        if planned is None:
            return own, own
        if planned.act is Act.REMOVE:
            return own, self._now
        return own, planned.expires_at - self._policy.grace_seconds if planned.expires_at is not None else None

    def _is_undated(self, standing: Standing, task: Task) -> bool:
        """Say whether a task lacks the TTL that the policy gives, and nobody knows since when."""
        if standing.timed or task.nowhere or is_dated(task, self._now):
            return False
        verdict = self._verdict(standing)
        return verdict is not None and verdict.retention.keep is not Keep.FOREVER

    def _verdict(self, task: Standing) -> Verdict | None:
        """Return the verdict about a task; None where Asynq alone decides."""
        enforced = self._policy.enforces(task.id)
        return verdict_of(self._policy, task.queue, task.type, task.state) if enforced else None

    def _policy_life(self, task: Standing, own: int | None) -> int | None:
        """Return how many seconds a task that arrives lives under the policy; None for ever."""
        verdict = self._verdict(task)
        if verdict is None:
            return None if own is None else own - task.since
        if verdict.retention.keep is Keep.FOREVER:
            return None
        own_retention = task.retention_seconds if task.state is State.COMPLETED else OWN_ARCHIVE_SECONDS
        return 0 if verdict.retention.keep is Keep.DELETE else verdict.retention.resolve(own_retention)


def content_bytes(task: Task) -> int:
    """Return the bytes of a task's message and result."""
    return task.size + (task.result if isinstance(task.result, int) else len(task.result))


def must_be_listed(task: Task) -> bool:
    """Say whether a list must hold a task, or it is lost: it is live, and no sorted set holds it."""
    return task.record is not None and task.size > 0 and task.state in LIVE and task.nowhere


def _day(when: int | None, start: int) -> int:
    """Return a time as whole days from another one, rounded up; what is beyond the forecast is one day beyond it."""
    if when is None:
        return NEVER
    return min(max(-(-(when - start) // _DAY), 0), HORIZON_DAYS + 1)


def _life(seconds: int | None) -> int:
    """Return a life to three digits, so that few different ones are counted; it is at most beyond the forecast."""
    if seconds is None:
        return NEVER
    seconds = min(max(seconds, 0), (HORIZON_DAYS + 1) * _DAY)
    return round(seconds, min(3 - len(str(seconds)), 0))
