"""What happened, in words: plain data that can be JSON. For the journal, those who watch, and the decision log. Pure.

Invariants:

* Never in an entry: a payload, a credential, an argument. Task IDs only where they are wanted.
* Bounded: texts of clients are cut off where they are too long. An entry of many tasks names the first `MAX_IDS`.
* `tells_of` says yes to what `entries_of` makes of a record about a task, whatever its ID is, and to nothing else.
  Of an entry of many tasks it says so only of those whose IDs stand there whole.
"""

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from asynq_ttl.asynq.keys import printable
from asynq_ttl.events import Adopted, FailedOpen, Outcome, Record, Swept
from asynq_ttl.times import rfc3339

# Task IDs that the entry of a sweep names, and where longer texts are cut off.
MAX_IDS = 20
MAX_TEXT = 1_024

Entry = dict[str, Any]


def entry_of(record: Record, trace_id: str, *, task_ids: bool) -> Entry:
    """Return a record as an entry.

    Args:
        record: what happened.
        trace_id: of its span; empty where there is none.
        task_ids: whether tasks may be named.
    """
    if isinstance(record, Outcome):
        entry = _decision(record)
    elif isinstance(record, Swept):
        entry = _sweep(record)
    elif isinstance(record, Adopted):
        entry = _adoption(record)
    elif isinstance(record, FailedOpen):
        entry = _failure(record)
    else:
        entry = {"kind": record.kind, "time": time_of(record.at_ns), "result": record.result}
        entry |= {"detail": printable(record.detail)} if record.detail else {}
    if trace_id:
        entry["trace_id"] = trace_id
    if not task_ids:
        for name in ("id", "id_sha256", "ids"):
            entry.pop(name, None)
    return entry


def entries_of(record: Record, trace_id: str, *, task_ids: bool) -> Iterator[Entry]:
    """Yield a record as entries of which each names one task at most, all of them together every one.

    The arguments are those of `entry_of`.
    """
    entry = entry_of(record, trace_id, task_ids=task_ids)
    tasks = record.due if isinstance(record, Swept) else record.ids if isinstance(record, Adopted) else ()
    if "ids" not in entry:
        yield entry
        return
    del entry["ids"], entry["tasks"]
    ghosts = entry.pop("ghosts", 0)
    entry.pop("undated", None)
    for task_id in tasks:
        yield entry | _named(task_id)
    if ghosts:
        yield entry | {"action": "none", "ghosts": ghosts}


def tells_of(entry: Entry, task_id: str, queue: str = "") -> bool:
    """Say whether an entry names a task.

    Args:
        entry: the entry.
        task_id: the task's ID.
        queue: its queue; empty for any.
    """
    if queue and entry.get("queue") != _text(queue):
        return False
    named = _named(task_id)
    if "id" in entry:
        return all(entry.get(name) == named.get(name) for name in ("id", "id_sha256"))
    ids = entry.get("ids")
    return named == {"id": task_id} and isinstance(ids, list) and task_id in ids


def mark_of(task_id: str) -> bytes:
    """Return what stands in the JSON of every entry of `entries_of` that names a task, and hardly in any other."""
    named = _named(task_id)
    return json.dumps(named.get("id_sha256", named["id"])).encode()


def time_of(nanoseconds: int) -> str:
    """Return a moment, in nanoseconds since the epoch, as entries have it."""
    return rfc3339(nanoseconds / 1e9, "milliseconds")


def _decision(outcome: Outcome) -> Entry:
    decision = outcome.decision
    entry: Entry = {
        "kind": "decision",
        "time": time_of(outcome.end_ns),
        "operation": decision.operation,
        "queue": _text(decision.queue),
        "state": decision.state,
        "action": decision.action.value,
        "mode": "enforce" if decision.enforced else "shadow",
        "rule": decision.rule,
        "microseconds": (outcome.end_ns - outcome.start_ns) // 1000,
    }
    optional = {
        **_named(decision.task_id),
        "type": _text(decision.task_type),
        "ttl_seconds": decision.ttl_seconds,
        "tasks": outcome.moved,
        "database": outcome.database,
    }
    entry |= {name: value for name, value in optional.items() if value not in ("", None)}
    if outcome.actions:
        entry["tasks_by_action"] = dict(outcome.actions)
    if outcome.reply.startswith((b"-", b"!")):
        entry["error"] = outcome.reply[1:].decode("utf-8", "replace")
    elif not outcome.reply:
        entry["error"] = "no reply"
    return entry


def _sweep(page: Swept) -> Entry:
    entry: Entry = {
        "kind": "sweep",
        "time": time_of(page.end_ns),
        "operation": "sweep",
        "queue": _text(page.queue),
        "state": page.state.value,
        "action": "delete" if page.due else "none",
        "mode": "enforce",
        "rule": "",
        "tasks": len(page.due),
        "ghosts": page.ghosts,
        "ids": [_text(task_id) for task_id in page.due[:MAX_IDS]],
        "database": page.database,
    }
    return entry | ({"sink": page.sink} if page.sink else {})


def _adoption(tasks: Adopted) -> Entry:
    return {
        "kind": "adoption",
        "time": time_of(tasks.end_ns),
        "operation": "adopt",
        "queue": _text(tasks.queue),
        "state": tasks.state.value,
        "action": "ttl",
        "mode": "enforce" if tasks.enforced else "shadow",
        "rule": tasks.rule,
        "ttl_seconds": tasks.ttl_seconds,
        "tasks": len(tasks.ids),
        "undated": tasks.undated,
        "ids": [_text(task_id) for task_id in tasks.ids[:MAX_IDS]],
        "database": tasks.database,
    }


def _failure(failure: FailedOpen) -> Entry:
    entry: Entry = {
        "kind": "fail_open",
        "time": time_of(failure.at_ns),
        "reason": failure.reason.value,
        "detail": printable(failure.detail),
    }
    if failure.kind:
        entry["operation"] = failure.kind
        entry["script"] = failure.sha
    entry |= {"queue": _text(failure.queue)} if failure.queue else {}
    return entry | (_named(failure.task_id) if failure.task_id else {})


def _named(task_id: str) -> Entry:
    """Return the fields that name a task: its ID as text, and the SHA-256 of its bytes where the text is not all."""
    text = _text(task_id)
    if text == task_id:
        return {"id": text}
    return {"id": text, "id_sha256": sha256(task_id.encode("utf-8", "surrogateescape")).hexdigest()}


def _text(text: str) -> str:
    return printable(text[:MAX_TEXT])
