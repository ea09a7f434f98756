"""Where a walk through indexes stands, as a journal keeps it, and where it goes on from there. Pure.

Invariant: of the index at which a run was interrupted no entry is passed over; indexes before it are not read again.
"""

from collections.abc import Sequence

from asynq_ttl.asynq.keys import text_of
from asynq_ttl.existing_keys.pages import START, IndexPage
from asynq_ttl.existing_keys.queue_places import Place

Position = tuple[str | int, ...]


def position_of(page: IndexPage) -> Position:
    """Return the position before a page."""
    return "index", page.place.queue, page.place.name, page.after[0].decode(), text_of(page.after[1])


def rest_of(indexes: Sequence[Place], position: Sequence[str | int]) -> tuple[Sequence[Place], tuple[bytes, bytes]]:
    """Return the indexes that are left to walk through, and score and ID of the entry after which to begin.

    Args:
        indexes: all of them, in their order.
        position: what `position_of` returned; nothing for the beginning. Any other position is behind all indexes.
    """
    if not position:
        return indexes, START
    if position[0] != "index":
        return (), START
    _, queue, state, score, task_id = map(str, position)
    places = [(place.queue, place.name) for place in indexes]
    if (queue, state) not in places:
        return indexes, START
    after = score.encode(), task_id.encode("utf-8", "surrogateescape")
    return indexes[places.index((queue, state)) :], after
