"""Holds ended tasks, and releases them. A held task is removed by nobody; see `asynq/hold`.

Invariants:

* A hold begins and ends in one script execution, which changes field, score and TTL together.
* Only an ended task that its index names is held: another would stay without anybody ever meeting it again.
* A release gives back what a policy says; without a policy, or where no rule says anything, what the task had before.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from asynq_ttl.asynq.hold import HELD_SCORE, Hold
from asynq_ttl.asynq.keys import queue_prefix, task_prefix, text_of
from asynq_ttl.asynq.task import Task, released
from asynq_ttl.existing_keys.database import PAGE_TASKS, Database
from asynq_ttl.existing_keys.pages import read_tasks
from asynq_ttl.existing_keys.queue_places import Place
from asynq_ttl.existing_keys.standing import TERMINAL, standing_of
from asynq_ttl.policy.plan import Act, plan
from asynq_ttl.policy.rules import Policy
from asynq_ttl.times import moment

# So long lives the key of a task whose time was over before it was released: until the sweeper comes.
_OVER_MS = 60_000
_HELD = {
    "held": "held",
    "already": "is held already",
    "missing": "there is no such task in this queue",
    "elsewhere": "its queue cannot be read now: a node of the cluster is away, or its slot is on its way; try again",
    "foreign": "not held: something else than a task, or than an index, is at its key",
}
_LIVE = "not held: it is {}, and only an archived or completed task can be held"
_STRAY = "not held: it is {}, but no index names it (an orphan: see `backfill --orphans`)"


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one task.

    Attributes:
        id: its ID.
        text: what was done, or why not.
        done: whether the task is now as was asked for.
    """

    id: bytes
    text: str
    done: bool


def held_entries(database: Database, place: Place) -> int:
    """Return how many tasks of an index are held."""
    return int(database.ask(place.key, "ZCOUNT", HELD_SCORE, HELD_SCORE) or 0)


def hold(database: Database, queue: str, ids: Iterable[bytes]) -> Iterator[Told]:
    """Hold tasks of a queue; yield what became of each."""
    for page in _pages(ids):
        call = (task_prefix(queue), queue_prefix(queue), *page)
        (results,) = database.run_all("existing_keys/hold_tasks", [call])
        for task_id, result in zip(page, results, strict=True):
            word, _, state = text_of(result).partition(" ")
            text = _HELD.get(word) or (_STRAY if word == "stray" else _LIVE).format(state or "in no state")
            yield Told(task_id, text, word in {"held", "already"})


def release(database: Database, queue: str, ids: Iterable[bytes], policy: Policy | None = None) -> Iterator[Told]:
    """Release tasks of a queue; yield what became of each.

    Args:
        database: where.
        queue: the queue.
        ids: the IDs of the tasks.
        policy: what says how long they live from here on; None for what they had.
    """
    for page in _pages(ids):
        now = database.now()
        told: dict[bytes, Told] = {}
        ends: dict[bytes, int | None] = {}
        arguments: list[bytes | str | int] = []
        for task in read_tasks(database, [(queue, page)], "head"):
            if task.hold is None:
                text = (
                    "is not held" if task.exists else _HELD["elsewhere" if database.left_out.elsewhere else "missing"]
                )
                told[task.id] = Told(task.id, text, done=False)
                continue
            expires, score = _after(task, task.hold, policy, now)
            ends[task.id] = expires
            arguments += (task.id, task.state, task.hold.value, "-1" if expires is None else str(expires), score)
        results: list[int] = []
        if ends:
            call = (task_prefix(queue), queue_prefix(queue), _OVER_MS, *arguments)
            (results,) = database.run_all("existing_keys/release_tasks", [call])
        for (task_id, expires), result in zip(ends.items(), results, strict=True):
            told[task_id] = Told(task_id, _said(result, expires), done=result > 0)
        yield from (told[task_id] for task_id in page)


def _pages(ids: Iterable[bytes]) -> Iterator[list[bytes]]:
    unique = list(dict.fromkeys(ids))
    for first in range(0, len(unique), PAGE_TASKS):
        yield unique[first : first + PAGE_TASKS]


def _after(task: Task, hold: Hold, policy: Policy | None, now: int) -> tuple[int | None, bytes]:
    """Return when the key of a held task expires once it is released, and its score then.

    The former is in Unix milliseconds; None for never.
    """
    had = hold.expires_at_ms, hold.score
    if policy is None:
        return had
    standing = standing_of(released(task, now), TERMINAL[task.state])
    # Of a task with a TTL a policy only says whether it is kept for ever; of one without, all but that.
    planned = plan(policy, replace(standing, timed=True), now) or plan(policy, replace(standing, timed=False), now)
    if planned is None:
        return had
    score = hold.score if planned.score is None else b"%d" % planned.score
    if planned.act is Act.REMOVE:
        return now * 1000, score
    return None if planned.expires_at is None else planned.expires_at * 1000, score


def _said(result: int, expires: int | None) -> str:
    """Return what became of a held task, in words, by the script's result and when its key expires."""
    if result == 0:
        return "not released: it was changed at this moment; try again"
    if result > 1:
        return "released; its time is over, so it goes within a minute"
    return "released; " + ("it has no TTL" if expires is None else f"its key expires at {moment(expires // 1000)}")
