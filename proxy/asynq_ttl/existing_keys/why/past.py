"""What became of a task, by what sidecars have noted of it: entries of a decision log and of a journal. Pure.

Invariant: what is told as a fact stands in an entry. What only may have happened is said to be possible.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from asynq_ttl.existing_keys.why.words import about, place, shown
from asynq_ttl.times import format_duration, moment

Json = dict[str, Any]

POSSIBLE = (
    "it never existed under this ID, or in another queue or another database than those that were looked at",
    "it succeeded, and had no Retention: Asynq deletes such a task at once",
    "it was deleted by hand, alone or with its whole queue, or by `asynq-ttl clean` or `backfill`",
    "its time was over: a worker's janitor, Redis or the sweeper of a sidecar that was not asked removed it",
    "it was archived, and Asynq trimmed it: by age, or because there were too many newer ones",
    "Redis evicted it, was emptied, or lost it in a failover",
)
"""What may have happened to a task of which nothing is known."""


_SAME = ("time", "kind", "operation", "database", "queue", "state", "reason")


def merged(*sources: Iterable[Json]) -> list[Json]:
    """Return the entries of several sources in the order of their times, each once.

    A journal names many tasks in one entry, and a log each in one of its own: such are the same where time, kind,
    database and queue are.
    """
    seen: dict[tuple[str, ...], Json] = {}
    for entry in (entry for source in sources for entry in source):
        key = tuple(str(entry.get(name)) for name in _SAME)
        seen.setdefault(key, entry)
    return sorted(seen.values(), key=lambda entry: str(entry.get("time", "")))


def sentence_of(entry: Json) -> str:
    """Return what an entry says about one task."""
    where = f"{entry.get('time', '')} {place(str(entry.get('queue', '')), entry.get('database'))}"
    trace = f" Trace {shown(str(entry['trace_id']))}." if entry.get("trace_id") else ""
    return f"{where}: {_what(entry)}.{_then(entry)}{trace}"


def _what(entry: Json) -> str:
    kind, state = entry.get("kind"), shown(str(entry.get("state", "")))
    if kind == "sweep":
        return f"removed from {state} by the sweeper, because its time was over"
    if kind == "adoption":
        return f"adopted by the sweeper, as {state} task without a TTL"
    if kind == "fail_open":
        reason, detail = (shown(str(entry.get(name, ""))) for name in ("reason", "detail"))
        return f"a command about it was forwarded untouched ({reason}: {detail})"
    failed = f", which failed: {shown(str(entry['error']))}" if entry.get("error") else ""
    if entry.get("operation") == "replace":
        took = "would have taken" if entry.get("mode") == "shadow" else "took"
        return f"an enqueue with its ID {took} the place of the {state} task{failed}"
    done = {"complete": "completed", "archive": "archived", "end": "ended", "run": "run again"}
    return f"{done.get(str(entry.get('operation')), f'moved to {state}')}{failed}"


def _then(entry: Json) -> str:
    """Say what was done to the task's key, by which rule."""
    if entry.get("kind") == "sweep":
        return _sink(entry, "had taken it before")
    if entry.get("kind") == "fail_open" or entry.get("error"):
        return ""
    shadow = ", for show only: nothing was changed" if entry.get("mode") == "shadow" else ""
    seconds = entry.get("ttl_seconds")
    kept = f" of {format_duration(seconds)}, grace included" if isinstance(seconds, int) and seconds >= 0 else ""
    done = {
        "ttl": f"its key got a TTL{kept}",
        "keep": f"its key got Asynq's own time as TTL{kept}",
        "none": "it is kept for ever, without a TTL",
        "delete": "it was removed at once",
        "persist": "its TTL was taken off",
        "replaced": "that one was replaced",
    }.get(str(entry.get("action")))
    if done is None:
        return ""
    if entry.get("action") != "persist" and not entry.get("rule"):
        return f" A rule picked inside Redis decided {_open_question(entry)}; what it said was not noted{shadow}."
    if entry.get("action") != "persist":
        done = f"by rule {shown(str(entry['rule']))} {done}"
    return f" {done[0].upper()}{done[1:]}{shadow}."


def _open_question(entry: Json) -> str:
    """Say what a rule that was picked inside Redis decides: no reply says what it was."""
    return "whether it is kept, and for how long" if _may_be_gone(entry) else "about its key"


def _may_be_gone(entry: Json) -> bool:
    """Say whether a task had no Retention, so that it went at once unless the rule that Redis picked keeps it."""
    return entry.get("operation") == "complete" and not entry.get("rule")


def rule_then(entries: Sequence[Json]) -> str:
    """Return the name of the rule that decided last how long it is kept; empty where none is known."""
    kept = [entry for entry in entries if entry.get("rule") and not entry.get("error")]
    decided = [entry for entry in kept if entry.get("operation") != "replace"]
    return str(decided[-1]["rule"]) if decided else ""


def end_of(entries: Sequence[Json], now: int, *, gone: bool) -> str:
    """Say what became of a task that was not found, as far as the entries say.

    Args:
        entries: those about it in one queue, the oldest first; there are some.
        now: the time in Unix seconds; 0 where nobody knows it.
        gone: whether the queue was looked at, so that it is certain that the task is not there.
    """
    told = [entry for entry in entries if _was_done(entry)]
    if not told:
        return "What became of it then is not known."
    last, rule, it_is_gone = told[-1], rule_then(told), "It is gone: " if gone else ""
    if last.get("kind") == "sweep":
        by = f" Rule {shown(rule)} had decided how long it is kept." if rule else ""
        removed = f"the sweeper of a sidecar removed it at {last['time']}, because its time was over."
        return _sentence(f"{it_is_gone}{removed}{by}{_sink(last, 'had it before')}")
    if last.get("action") == "delete":
        return _sentence(f"{it_is_gone}rule {shown(rule)} does not keep such a task, and removed it at {last['time']}.")
    then = "What became of it then was not noted; Asynq deletes a task that succeeds without a Retention at once."
    if last.get("action") == "persist":
        return f"It was run again at {last['time']}, after it had ended. {then}"
    if last.get("action") == "replaced":
        return f"It was enqueued anew at {last['time']}, in place of the task with its ID that had ended. {then}"
    return _unnoted(last, now, gone=gone)


def _unnoted(last: Json, now: int, *, gone: bool) -> str:
    """Say what may have become of a task that had ended, where its removal was not noted."""
    seconds = last.get("ttl_seconds")
    until = f" Its key was to live for {about(seconds)} from then on." if isinstance(seconds, int) else ""
    noted = f"What was noted last is of {last['time']}.{until}"
    if not gone:
        return f"{noted} Whether it is still there is not known."
    may = ["no rule keeps such a task, so that Asynq deleted it at once"] if _may_be_gone(last) else []
    if _over(last, now):
        may.append("its time was over")
    if last.get("state") == "archived":
        may.append("too many newer ones were archived, so that it was trimmed")
    may += ["it was deleted by hand, by `asynq-ttl clean` or by `backfill`", "Redis lost it"]
    perhaps = f"It may be that {', that '.join(may[:-1])}, or that {may[-1]}."
    return f"It is gone. {noted} What removed it was not noted. {perhaps}"


def _over(entry: Json, now: int) -> bool:
    """Say whether the time that a key was given may be over; times of entries can be compared as texts."""
    seconds = entry.get("ttl_seconds")
    if not now or not isinstance(seconds, int):
        return True
    return (moment(now - seconds) or "") >= str(entry["time"])


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _was_done(entry: Json) -> bool:
    """Say whether an entry is of something that was done to the task."""
    return entry.get("kind") != "fail_open" and not entry.get("error") and entry.get("mode") != "shadow"


def _sink(entry: Json, said: str) -> str:
    return f" The sink {shown(str(entry['sink']))} {said}." if entry.get("sink") else ""
