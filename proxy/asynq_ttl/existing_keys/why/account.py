"""The whole answer about one task: what Redis has of it, what sidecars have noted of it, and what that comes to. Pure.

What was asked, and what could not be, is part of the answer: it says how much "nothing is known" is worth.
"""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from asynq_ttl.asynq.keys import printable, text_of
from asynq_ttl.existing_keys.why.ahead import outlook
from asynq_ttl.existing_keys.why.find import Whereabouts
from asynq_ttl.existing_keys.why.past import POSSIBLE, end_of, rule_then, sentence_of
from asynq_ttl.existing_keys.why.present import facts, sentences
from asynq_ttl.existing_keys.why.words import place, shown
from asynq_ttl.policy.rules import Policy

Json = dict[str, Any]

# Entries that are told in sentences; JSON has them all.
_MOST_TOLD = 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found out about a task.

    Attributes:
        task_id: its ID.
        found: what the queues have of it.
        now: Redis's time in Unix seconds; 0 where Redis was not asked.
        entries: what sidecars have noted of it, the oldest first.
        policy: the policy that decides now; None where that is not known.
        notes: what was looked at, and what could not be, in sentences.
        failed: whether something could not be looked at.
        looked_at: the queues that were looked at: the number of the database, and the name.
    """

    task_id: bytes
    found: Sequence[Whereabouts]
    now: int
    entries: Sequence[Json]
    policy: Policy | None
    notes: Sequence[str]
    failed: bool = False
    looked_at: frozenset[tuple[int, str]] = frozenset()

    @property
    def known(self) -> bool:
        """Whether anything is known of the task. Of a queue that only has keys of a wrong type nothing is."""
        return bool(self.entries) or any(where.task.exists or where.taken or where.stands for where in self.found)


def account(evidence: Evidence, *, error: bool = True) -> Json:
    """Return the answer as JSON; under `sentences` all of it is told to a person.

    Args:
        evidence: what was found out.
        error: whether the text of the task's last error may be told.
    """
    entries, now = evidence.entries, evidence.now
    name, tasks, lines = text_of(evidence.task_id), [], []
    told: Json = {"id": printable(name)}
    if name != told["id"]:
        told["id_base64"] = b64encode(evidence.task_id).decode()
    for where in evidence.found:
        ahead = outlook(where, now, evidence.policy)
        tasks.append(facts(where, now, error=error) | ahead.as_json())
        lines += [*sentences(where, now, error=error), *ahead.sentences, ""]
    end = list(_ends(evidence))
    notes = list(dict.fromkeys(evidence.notes))
    lines += [*_absence(evidence, shown(name), end), *_noted(entries), *notes]
    return told | {
        "known": evidence.known,
        "whole": not evidence.failed,
        "tasks": tasks,
        "rule_then": rule_then(entries),
        "events": list(entries),
        "trace_ids": list(dict.fromkeys(str(each["trace_id"]) for each in entries if each.get("trace_id"))),
        "end": end,
        "possible": [] if evidence.known else list(POSSIBLE),
        "notes": notes,
        "sentences": [printable(line) for line in lines],
    }


def _ends(evidence: Evidence) -> Iterator[str]:
    """Tell what became of the task in each queue where it was, as entries say, and is not."""
    places: dict[tuple[int | None, str], list[Json]] = {}
    for entry in evidence.entries:
        number = entry.get("database")
        number = number if isinstance(number, int) else None
        places.setdefault((number, str(entry.get("queue", ""))), []).append(entry)
    there = {(where.database, printable(where.queue)) for where in evidence.found if where.task.exists}
    looked_at = {(database, printable(queue)) for database, queue in evidence.looked_at}
    for (database, queue), entries in places.items():
        if not _among(there, database, queue):
            told = end_of(entries, evidence.now, gone=_among(looked_at, database, queue))
            yield told if len(places) == 1 else f"In {place(queue, database)}: {told}"


def _among(places: set[tuple[int, str]], database: int | None, queue: str) -> bool:
    """Say whether a queue is among some; not every entry says in which database."""
    return any(name == queue and database in (None, number) for number, name in places)


def _absence(evidence: Evidence, name: str, end: list[str]) -> list[str]:
    """Tell of a task that is not there: what is known of its end, or what may have happened."""
    if not evidence.known:
        first = f"Nothing is known of task {name}. What could have happened, of which nothing is certain:"
        return [first, *(f"  - {each}" for each in POSSIBLE), ""]
    if evidence.found:
        return [*end, ""] if end else []
    redis = "Redis has nothing of it, where it was asked." if evidence.now else "Redis was not asked."
    return [f"Task {name}: {redis}", *end, ""]


def _noted(entries: Sequence[Json]) -> list[str]:
    """Tell what was noted, the latest last."""
    if not entries:
        return []
    more = len(entries) - _MOST_TOLD
    earlier = [f"  … and {more:,} earlier ones, which --json has"] if more > 0 else []
    rule = rule_then(entries)
    then = [f"Then decided: rule {shown(rule)}."] if rule else []
    return [
        *then,
        "What was noted of it:",
        *earlier,
        *(f"  {sentence_of(entry)}" for entry in entries[-_MOST_TOLD:]),
        "",
    ]
