"""All there is of the model's queue in Redis at one moment, read past the sidecar, and how it has to agree."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from support.asynq_calls import PREFIX
from trials.model.asynq_model import LIVE, TERMINAL, AsynqModel

_SCRIPT = Path(__file__).with_name("snapshot.lua").read_text()

# Between the model's clock reading before a command and the moment at which Redis sets the TTL.
TOLERANCE_SECONDS = 5.0


@dataclass(frozen=True)
class Found:
    """A task key: what is in it, and when it expires in seconds since the epoch."""

    state: str
    message: bytes | None
    expires: float | None


@dataclass(frozen=True)
class Snapshot:
    """A queue as it stands in Redis."""

    tasks: dict[str, Found]
    pending: list[str]
    active: list[str]
    indexes: dict[str, dict[str, int]]
    groups: set[str]
    locks: dict[str, str]

    def ghosts(self, state: str) -> dict[str, int]:
        """Return the entries of a terminal index whose hash is gone or in another state."""
        return {
            task_id: score
            for task_id, score in self.indexes[state].items()
            if task_id not in self.tasks or self.tasks[task_id].state != state
        }

    def places(self, task_id: str) -> list[str]:
        """Return where a task is listed."""
        lists = ["pending"] * self.pending.count(task_id) + ["active"] * self.active.count(task_id)
        indexes = [_place(name) for name, members in self.indexes.items() if task_id in members and name != "lease"]
        return lists + indexes


def take(client: "redis.Redis") -> Snapshot:
    """Read the queue in one step."""
    reply: Any = client.eval(_SCRIPT, 0, PREFIX)
    (seconds, micros), tasks, pending, active, indexes, groups, locks = reply
    now = int(seconds) + int(micros) / 1e6
    return Snapshot(
        {
            task_id.decode(): Found(state.decode() if state else "", message, None if left < 0 else now + left / 1000)
            for task_id, state, message, left in tasks
        },
        [task_id.decode() for task_id in pending],
        [task_id.decode() for task_id in active],
        {
            name.decode(): {
                task_id.decode(): int(score) for task_id, score in zip(found[::2], found[1::2], strict=True)
            }
            for name, found in indexes
        },
        {group.decode() for group in groups},
        {name.decode(): holder.decode() for name, holder in locks},
    )


def check(seen: Snapshot, model: AsynqModel, excused: set[tuple[str, str]]) -> None:
    """Assert that Redis and the model agree.

    Args:
        seen: Redis.
        model: the model.
        excused: the ghosts that may still be there, as (state, task ID).
    """
    _check_lives(seen)
    states = {task_id: found.state for task_id, found in seen.tasks.items()}
    assert states == {task_id: task.state for task_id, task in model.tasks.items()}, "tasks and their states"
    for task_id, task in model.tasks.items():
        found = seen.tasks[task_id]
        assert found.message == task.message.encoded, f"the message of {task_id}"
        assert (found.expires is None) == (task.expires is None), f"TTL of {task_id} ({task}): {found.expires}"
        if found.expires is not None and task.expires is not None:
            assert abs(found.expires - task.expires) <= TOLERANCE_SECONDS, f"TTL of {task_id} ({task}): {found.expires}"
        ghostly = [state for state in TERMINAL if state != task.state and (state, task_id) in excused]
        places = [place for place in seen.places(task_id) if place not in ghostly]
        assert places == [task.state], f"{task_id} is {task.state}, and listed in {places}"
    for state in TERMINAL:
        ghosts = seen.ghosts(state)
        assert ghosts.keys() <= {task_id for index, task_id in excused if index == state}, f"ghosts in {state}"
        entries = {task_id: score for task_id, score in seen.indexes[state].items() if task_id not in ghosts}
        assert entries == model.members(state), f"entries and scores of {state}"
    assert seen.pending == model.pending, "the pending list"
    assert seen.active == model.active, "the active list"
    assert seen.indexes["lease"] == model.leases, "leases"
    for state in ("scheduled", "retry"):
        assert seen.indexes[state] == model.members(state), f"entries and scores of {state}"
    assert seen.indexes["g:g1"] == model.members("aggregating"), "entries and scores of the group"
    assert seen.groups == model.groups, "groups"
    assert seen.locks == model.locks, "uniqueness locks"


def _check_lives(seen: Snapshot) -> None:
    for task_id, found in seen.tasks.items():
        assert found.state in LIVE or found.state in TERMINAL, f"{task_id} has the state {found.state!r}"
        assert found.message is not None, f"{task_id} has no message"
        assert found.state not in LIVE or found.expires is None, f"{task_id} is {found.state} and has a TTL"


def _place(name: str) -> str:
    return "aggregating" if name.startswith("g:") else name
