"""How sentences name tasks, texts of clients and moments. Pure.

Invariant: what clients chose is one word of printable characters, or stands in quotes as JSON has it, so that no text
can pass for another one, or do anything to a terminal.
"""

import json
import re

from asynq_ttl.times import format_duration, moment

_WORD = re.compile(r"[^\s\"'\\(),;]+")
_LONGEST = 300


def shown(text: str) -> str:
    """Return a text as a word of a sentence."""
    more = "…" if len(text) > _LONGEST else ""
    text = text[:_LONGEST]
    plain = text.isprintable() and _WORD.fullmatch(text)
    return (text if plain else json.dumps(text)) + more


def place(queue: str, database: object) -> str:
    """Return a queue, and the number of its database where that is not 0, which hardly anybody leaves."""
    return f"queue {shown(queue)}" + (f" of database {shown(str(database))}" if database else "")


def listed(names: list[str]) -> str:
    """Return some names as a list in a sentence."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def at(seconds: float) -> str:
    """Return a moment, in seconds since the epoch."""
    return (moment(int(seconds)) if abs(seconds) < 2**53 else None) or "a time that no calendar has"


def about(seconds: float) -> str:
    """Return how long something takes, to its two largest units."""
    return "".join(re.findall(r"\d+[dhms]", format_duration(max(int(seconds), 0)))[:2])


def from_now(seconds: float, now: int) -> str:
    """Return a moment and how far away it is."""
    away = int(max(min(seconds, 2**53), 0)) - now
    return f"{at(seconds)} ({f'in {about(away)}' if away >= 0 else f'{about(-away)} ago'})"
