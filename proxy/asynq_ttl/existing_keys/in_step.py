"""Runs walks through many lists and sorted sets side by side: a round trip takes several of them a page further.

A walk is a generator. It yields the arguments of the next run of a script, and is sent what that replied.

Invariant: a round trip holds Redis up for no longer than about one full page does. Short walks share one, a long one
has it to itself.
"""

from collections.abc import Generator, Iterable
from typing import Any

from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.queue_places import Place
from asynq_ttl.existing_keys.script_runs import Call

Walk = Generator[Call, Any, None]

_MOST_IDS = 200
_MOST_WALKS = 50


def in_step(database: Database, script: str, walks: Iterable[tuple[Place, Walk]]) -> None:
    """Run walks to their ends.

    Args:
        database: where.
        script: the script that each of their steps runs.
        walks: what each goes through, and the walk.
    """
    batch: list[Walk] = []
    ids = 0
    for place, walk in walks:
        if batch and (ids + place.length > _MOST_IDS or len(batch) == _MOST_WALKS):
            _finish(database, script, batch)
            batch, ids = [], 0
        batch.append(walk)
        ids += place.length
    _finish(database, script, batch)


def _finish(database: Database, script: str, walks: list[Walk]) -> None:
    running = [(walk, next(walk)) for walk in walks]
    while running:
        replies = database.run_all(script, [call for _, call in running])
        sent = [(walk, _send(walk, reply)) for (walk, _), reply in zip(running, replies, strict=True)]
        running = [(walk, call) for walk, call in sent if call is not None]


def _send(walk: Walk, reply: Any) -> Call | None:  # noqa: ANN401 - replies have any shape
    """Send a walk the reply to its call; return its next call, or None where it has ended."""
    try:
        return walk.send(reply)
    except StopIteration:
        return None
