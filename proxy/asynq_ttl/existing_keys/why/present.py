"""What a queue has of a task, as facts and in sentences: where it is, since when, and what is odd about it. Pure.

Knows of no policy: `ahead` says what becomes of the task, `past` what became of it.
"""

from typing import Any

from asynq_ttl.asynq.keys import text_of
from asynq_ttl.asynq.task import ended_at
from asynq_ttl.existing_keys.standing import LIVE, TERMINAL
from asynq_ttl.existing_keys.why.find import Whereabouts
from asynq_ttl.existing_keys.why.words import about, from_now, listed, place, shown
from asynq_ttl.times import moment

Json = dict[str, Any]

# Where a task of each state stands. Before Asynq v0.22 there are deadlines where there are leases now.
_AT_HOME = {"active": ("active", "lease", "deadlines"), "aggregating": ()}


def facts(where: Whereabouts, now: int, *, error: bool) -> Json:
    """Return what is known of a task, as JSON.

    Args:
        where: what was found.
        now: Redis's time in Unix seconds.
        error: whether the text of its last error may be told.
    """
    task, record = where.task, where.task.record
    told: Json = {
        "database": where.database,
        "queue": where.queue,
        "state": task.state,
        "exists": task.exists,
        "since": moment(since(where)),
        "stands_in": where.stands,
        "scores": {name: str(score) for name, score in where.scores.items()},
        "ttl_seconds": None if task.ttl_ms < 0 else task.ttl_ms // 1000,
        "key_expires": moment(now + task.ttl_ms // 1000) if task.ttl_ms >= 0 else None,
        "message_bytes": task.size,
        "held_since": moment(task.hold.since) if task.hold is not None else None,
        "queue_paused": where.paused,
        "wrong_keys": list(where.wrong),
        "lock": None,
    }
    if where.lock is not None:
        told["lock"] = {"key": where.lock.key, "holder": where.lock.holder, "held_by_it": task.locked}
    if record is not None:
        told |= {
            "type": record.type,
            "retried": record.retried,
            "max_retry": record.retry,
            "retention_seconds": record.retention,
            "last_failed_at": moment(record.last_failed_at),
            "deadline": moment(record.deadline),
            "group": record.group,
        }
        told |= {"error": record.error} if error else {}
    return told


def since(where: Whereabouts) -> int:
    """Return since when a task is in its state, in Unix seconds; 0 where nobody knows."""
    task = where.task
    if task.state in TERMINAL:
        return ended_at(task)
    if task.state == "retry" and task.record is not None:
        return task.record.last_failed_at
    return task.pending_since if task.state == "pending" else 0


def sentences(where: Whereabouts, now: int, *, error: bool) -> list[str]:
    """Return the same in sentences; the arguments are those of `facts`."""
    task = where.task
    name = f"Task {shown(text_of(task.id))}"
    queue = place(where.queue, where.database)
    if not task.exists:
        if where.taken and where.stands:
            other = f"{name} of {queue} has something else than a hash at its key"
            return [f"{other}, and its ID stands in {listed(where.stands)}.", *_wrong(where)]
        gone = f"{name} of {queue} has no hash"
        if where.stands:
            return [f"{gone}, but its ID stands in {listed(where.stands)}: a ghost.", *_wrong(where)]
        return [f"{gone} that can be looked at.", *_wrong(where)]
    state = shown(task.state) if task.state else "in no state"
    told = [f"{name} is {state}, in {queue}{_since(since(where), now)}."]
    told += [*_message(where, now, error=error), *_places(where), *_ttl(where, now)]
    return [*told, *_lock(where), *_wrong(where)]


def _since(when: int, now: int) -> str:
    return f", since {from_now(when, now)}" if when else "; since when is not written there"


def _message(where: Whereabouts, now: int, *, error: bool) -> list[str]:
    task, record = where.task, where.task.record
    if record is None:
        return [f"Its message of {task.size:,} bytes cannot be read." if task.size else "It has no message."]
    retention = about(record.retention) if record.retention else "none"
    told = [f"Its type is {shown(record.type)}, its Retention {retention}."]
    if record.retried or record.last_failed_at:
        text = f", with the error {shown(record.error)}" if error and record.error else ""
        failed = f" It failed last at {from_now(record.last_failed_at, now)}{text}." if record.last_failed_at else ""
        told.append(f"It was retried {record.retried} times of {record.retry}.{failed}")
    return told


def _places(where: Whereabouts) -> list[str]:
    """Say where the ID stands: in the index of the task's state, or elsewhere."""
    task, stands = where.task, where.stands
    home = _AT_HOME.get(task.state, (task.state,))
    told, astray = [], [name for name in stands if name not in home]
    at_home = [name for name in stands if name in home]
    pending = where.lists["pending"]
    if at_home:
        told.append(f"Its ID stands in {listed(at_home)}, where it belongs.")
    elif task.state == "pending" and pending.looked_at < pending.length:
        told.append(f"Its ID is not among the {pending.looked_at:,} of {pending.length:,} in pending that are next.")
    elif task.state == "aggregating" and task.score is not None:
        told.append("Its ID stands in its group, where it belongs.")
    elif not where.wrong:
        known = task.state in TERMINAL or task.state in LIVE
        told.append("Its ID stands in no index or list" + (": Asynq does not see it." if known else "."))
    if astray:
        told.append(f"Its ID stands in {listed(astray)} too: a ghost, left by an earlier life of this ID.")
    return told


def _ttl(where: Whereabouts, now: int) -> list[str]:
    task = where.task
    if task.ttl_ms < 0:
        return ["Its key has no TTL."]
    told = [f"Its key has a TTL: Redis removes it at {from_now(now + task.ttl_ms / 1000, now)} at the latest."]
    if task.state in LIVE:
        told.append(
            "A task that has still to run must have none, or it vanishes: `asynq-ttl persist --live` takes it off."
        )
    return told


def _lock(where: Whereabouts) -> list[str]:
    lock, key = where.lock, ""
    if lock is None:
        return []
    key = f"Its uniqueness lock {shown(lock.key)}"
    if lock.left_ms == -2 or not lock.holder:
        return [f"{key} is free."]
    until = f", for another {about(lock.left_ms / 1000)}" if lock.left_ms >= 0 else ", for ever"
    return [f"{key} is held {'by it' if where.task.locked else f'by another task, {shown(lock.holder)}'}{until}."]


def _wrong(where: Whereabouts) -> list[str]:
    if not where.wrong:
        return []
    keys = listed([shown(key) for key in where.wrong])
    return [f"Of another type than Asynq has there, so that nothing can be said of them: {keys}."]
