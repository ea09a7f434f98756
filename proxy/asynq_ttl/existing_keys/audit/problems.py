"""What can be wrong with the keys of an Asynq database, by name: the table that `audit` reports from. Pure."""

from asynq_ttl.asynq.keys import AMBIGUOUS
from asynq_ttl.existing_keys.findings import Finding, Severity

_NOTICE, _WARNING, _DANGER = Severity.NOTICE, Severity.WARNING, Severity.DANGER

PROBLEMS: dict[str, tuple[Severity, str, str, str]] = {
    "wrong-type": (
        _DANGER,
        "keys of another type than Asynq has at their place",
        "each command of Asynq on them fails; what they should tell of tasks is not in this report",
        "find out who writes them (asynq:queues lists what other programs add), then RENAME or DEL them",
    ),
    "unread": (
        _WARNING,
        "nodes of the cluster that cannot be read",
        "what they have is not in this report",
        "see to them, then audit again",
    ),
    "moving": (
        _WARNING,
        "queues whose slots are on their way to another node of the cluster",
        "they are not in this report, or not whole",
        "audit again once the slots have arrived",
    ),
    "live-ttl": (
        _DANGER,
        "live tasks whose key has a TTL",
        "they vanish when it fires, run or not",
        "asynq-ttl persist --live --apply, then look for who runs archived tasks past the sidecar",
    ),
    "lost": (
        _DANGER,
        "live tasks that are in no list or index",
        "no worker will ever find them",
        "enqueue them again (asynq-ttl export --state pending ... shows them), then delete them",
    ),
    "ghost-live": (
        _DANGER,
        "entries of archived or completed whose task is alive again",
        "Asynq's janitor or its trim of the archive deletes the live task by its old entry",
        "asynq-ttl backfill --ghosts drop --apply",
    ),
    "ghost": (
        _WARNING,
        "entries of archived or completed whose task is gone",
        "lists show rows without a name, GetQueueInfo fails, and run all makes tasks that can never run",
        "asynq-ttl backfill --ghosts drop --apply; a sidecar drops them by itself",
    ),
    "waiting-gone": (
        _WARNING,
        "IDs in pending, scheduled or retry whose task is gone or in another state",
        "a worker that takes one gets nothing, and Asynq alone keeps it as active for ever",
        "put workers behind a sidecar: it drops such an ID when it is taken",
    ),
    "active-gone": (
        _WARNING,
        "IDs in active or lease whose task is gone or has no message",
        "they count as active for ever: nothing in Asynq repairs them",
        "run a sidecar: its sweeper drops them once their lease is over",
    ),
    "orphan": (
        _WARNING,
        "archived or completed tasks that are in no index",
        "no list shows them and nothing ever deletes them (Asynq before v0.25 leaves them when the archive overflows)",
        "asynq-ttl export what is worth it, then asynq-ttl backfill --orphans delete --apply (or --orphans ttl)",
    ),
    "half": (
        _WARNING,
        "hashes without a message",
        "they are no tasks: a result written after the task was deleted, or an ID that was run without its task",
        "asynq-ttl backfill --orphans delete --ghosts drop --apply",
    ),
    "unreadable": (
        _WARNING,
        "task keys whose message cannot be read",
        "only rules without a type can decide about them",
        "find out who writes them: a fork of Asynq, or another program with keys of this form",
    ),
    "ambiguous": (
        _WARNING,
        f"names with {AMBIGUOUS} in them, which can be read as those of another queue",
        "sidecar and tools leave such queues and tasks alone: they get no TTL and are not in this report",
        f"use names of queues and task IDs without {AMBIGUOUS}",
    ),
    "at-cap": (
        _WARNING,
        "archives at Asynq's cap of 10,000",
        "every task that is archived now throws the oldest one away silently (before v0.25 it leaves its key behind)",
        "run a sidecar with archived: {max: ...} as you need it",
    ),
    "unlisted": (
        _WARNING,
        "queues with keys that asynq:queues does not list",
        "no dashboard shows them and no janitor cleans them up; a deleted queue leaves its completed tasks so",
        "asynq-ttl export what is worth it, then delete their keys, or list them again: SADD asynq:queues NAME",
    ),
    "untimed": (
        _NOTICE,
        "archived or completed tasks without the TTL that the policy gives",
        "they stay until Asynq trims them: archived ones for 90 days, and only while new ones arrive",
        "asynq-ttl backfill --policy FILE, then the same with --apply",
    ),
    "undated": (
        _NOTICE,
        "archived or completed tasks without a TTL of which nobody knows when they ended",
        "for a sidecar that adopts them they count from when it first sees them",
        "nothing, or find out who writes scores in another unit, or messages without completed_at",
    ),
    "archived-lock": (
        _NOTICE,
        "uniqueness locks that archived tasks hold",
        "the same task cannot be enqueued until the lock runs out",
        "run or delete the archived tasks; a sidecar frees the lock when it removes the task",
    ),
    "untimed-history": (
        _NOTICE,
        "histories of scheduler entries without the TTL that the policy gives",
        "they stay for ever, unless a scheduler adds to them through a sidecar",
        "asynq-ttl backfill --state scheduler_history --policy FILE, then the same with --apply",
    ),
    "scheduler-history": (
        _NOTICE,
        "histories of scheduler entries that no running scheduler has",
        "they have no TTL: every restart of a scheduler that was killed leaves some",
        "run schedulers through a sidecar whose policy has scheduler_history: 30d, and backfill with that policy",
    ),
}
"""By name: severity, what it is, why it matters, what to do."""


def finding_of(code: str, count: int, examples: list[str]) -> Finding:
    """Return the finding that a problem is there.

    Args:
        code: its name in `PROBLEMS`.
        count: how often it is there.
        examples: some keys or IDs.
    """
    severity, what, why, advice = PROBLEMS[code]
    return Finding(code, severity, what, why, advice, count, examples)
