"""What a reply of the script means; that Redis replies so, `integration/existing_keys/test_why.py` shows."""

from typing import Any

from asynq_ttl.existing_keys.why.find import ListPlace, UniquenessLock, find
from support.scripted_database import ScriptedDatabase
from support.task_message import encode_task

NOWHERE = [None] * 6
NOTHING: list[Any] = [[], NOWHERE, [0, 0, 0, 0], [b"", -2, b""], b"none", []]


class _Replies(ScriptedDatabase):
    """A database that replies for each queue as it is told."""

    def __init__(self, replies: dict[bytes, list[Any]]) -> None:
        super().__init__()
        self.replies = replies
        self.calls: list[Any] = []

    def run_all(self, name: str, calls: Any) -> list[Any]:
        assert name == "existing_keys/find_task"
        self.calls.append(calls)
        return [self.replies.get(key, NOTHING) for key, *_ in calls]


def row(state: bytes, ttl_ms: int = -1, score: bytes | None = None) -> list[Any]:
    """Return the row of a task."""
    message = encode_task("x", "a")
    return [state, message, len(message), ttl_ms, score, 1, 0, b"", b"", []]


def test_a_task_is_found_in_its_queue() -> None:
    """Where it stands, its lock, and whether its queue is paused; the other queues have nothing of it."""
    reply = [
        row(b"archived", 5_000, b"1700000000"),
        [b"1700000000", None, None, b"5", None, None],
        [3, 20_000, 0, 2],
        [b"a", 900, b"asynq:{q}:unique:k"],
        b"string",
        [],
    ]
    database = _Replies({b"asynq:{q}:t:a": reply})
    (found,) = find(database, ["other", "q"], b"a")
    assert (found.queue, found.database, found.task.state, found.task.ttl_ms) == ("q", 0, "archived", 5_000)
    assert found.scores == {"archived": 1_700_000_000, "retry": 5}
    assert found.lists == {"pending": ListPlace(3, 20_000, 100), "active": ListPlace(0, 2, 2)}
    assert found.stands == ["archived", "retry", "pending"]
    assert found.lock == UniquenessLock("asynq:{q}:unique:k", "a", 900)
    assert found.paused


def test_what_is_no_task_is_found_too() -> None:
    """A ghost, and keys of another type; each key is named once."""
    ghost = [[], [None, b"9", *NOWHERE[2:]], [0, 0, 0, 0], [b"", -2, b""], b"none", []]
    wrong = [[b"no hash"], NOWHERE, [0, 0, 0, 0], [b"", -2, b""], b"none", [b"asynq:{w}:t:a", b"asynq:{w}:t:a"]]
    one, other = find(_Replies({b"asynq:{g}:t:a": ghost, b"asynq:{w}:t:a": wrong}), ["g", "w"], b"a")
    assert (one.task.exists, one.stands, one.lock, one.paused) == (False, ["completed"], None, False)
    assert (other.task.exists, other.stands, other.wrong) == (False, [], ("asynq:{w}:t:a",))


def test_many_queues_are_asked_in_pages() -> None:
    """Of one queue alone more of its lists is looked at."""
    database = _Replies({})
    assert not list(find(database, [f"q{number}" for number in range(120)], b"a"))
    assert [len(calls) for calls in database.calls] == [50, 50, 20]
    assert {call[3] for calls in database.calls for call in calls} == {100}
    assert not list(find(database, ["q"], b"a"))
    assert database.calls[-1][0][3] == 1_000
