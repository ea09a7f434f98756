"""The whole answer about one task: what Redis has of it, what sidecars have noted of it, and what that comes to. Pure.

What was asked, and what could not be, is part of the answer: it says how much "nothing is known" is worth.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asynq_ttl.asynq.keys import printable, text_of
from asynq_ttl.existing_keys.why.ahead import outlook
from asynq_ttl.existing_keys.why.find import Whereabouts
from asynq_ttl.existing_keys.why.past import POSSIBLE, end_of, rule_then, sentence_of
from asynq_ttl.existing_keys.why.present import facts, sentences
from asynq_ttl.existing_keys.why.words import shown
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
    """

    task_id: bytes
    found: Sequence[Whereabouts]
    now: int
    entries: Sequence[Json]
    policy: Policy | None
    notes: Sequence[str]
    failed: bool = False

    @property
    def known(self) -> bool:
        """Whether anything is known of the task."""
        return bool(self.found or self.entries)


def account(evidence: Evidence, *, error: bool = True) -> Json:
    """Return the answer as JSON; under `sentences` all of it is told to a person.

    Args:
        evidence: what was found out.
        error: whether the text of the task's last error may be told.
    """
    told: Json = {"id": printable(text_of(evidence.task_id))}
    if text_of(evidence.task_id) != told["id"]:
        told["id_base64"] = b64encode(evidence.task_id).decode()
    tasks, lines = [], []
    for where in evidence.found:
        ahead = outlook(where, evidence.now, evidence.policy)
        tasks.append(facts(where, evidence.now, error=error) | ahead.as_json())
        lines += [*sentences(where, evidence.now, error=error), *ahead.sentences, ""]
    exists = any(where.task.exists for where in evidence.found)
    gone = [] if exists or not evidence.entries else end_of(evidence.entries)
    noted = _noted(evidence.entries)
    possible = [] if evidence.known else list(POSSIBLE)
    name = f"task {shown(text_of(evidence.task_id))}"
    if not evidence.known:
        lines += [f"Nothing is known of {name}. What could have happened, of which nothing is certain:"]
        lines += [f"  - {each}" for each in possible] + [""]
    elif not exists and not evidence.found:
        lines += [
            f"Redis has nothing of {name}, where it was asked."
            if evidence.now
            else f"Redis was not asked about {name}.",
            *gone,
            "",
        ]
    else:
        lines += [*gone, ""] if gone else []
    lines += [*noted, ""] if noted else []
    notes = list(dict.fromkeys(evidence.notes))
    lines += notes
    return told | {
        "known": evidence.known,
        "whole": not evidence.failed,
        "tasks": tasks,
        "rule_then": rule_then(evidence.entries),
        "events": list(evidence.entries),
        "trace_ids": list(dict.fromkeys(str(each["trace_id"]) for each in evidence.entries if each.get("trace_id"))),
        "end": gone,
        "possible": possible,
        "notes": notes,
        "sentences": _printable(lines),
    }


def _noted(entries: Sequence[Json]) -> list[str]:
    """Tell what was noted, the latest last."""
    if not entries:
        return []
    more = len(entries) - _MOST_TOLD
    earlier = [f"  … and {more:,} earlier ones, which --json has"] if more > 0 else []
    rule = rule_then(entries)
    then = [f"Then decided: rule {shown(rule)}."] if rule else []
    return [*then, "What was noted of it:", *earlier, *(f"  {sentence_of(entry)}" for entry in entries[-_MOST_TOLD:])]


def _printable(lines: list[str]) -> list[str]:
    """Return lines that can be printed whatever they name, without an empty one at the end."""
    while lines and not lines[-1]:
        lines.pop()
    return [printable(line) for line in lines]
