"""The walk of an audit: what it reads, and when it goes on or reads again.

What it says about a real database: `tests/integration/existing_keys/test_audit.py`.
"""

from pathlib import Path

import pytest

from asynq_ttl.asynq.keys import index_key
from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.audit.audit import Audit
from asynq_ttl.existing_keys.audit.checkpoint import Checkpoint, Progress
from asynq_ttl.existing_keys.audit.counts import Tally
from asynq_ttl.existing_keys.pages import TaskFilter
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import DEFAULT_POLICY, Policy
from support.scripted_database import NOW, ScriptedDatabase, task_of

PENDING = index_key("q", "pending")


def audit(database: ScriptedDatabase, wanted: TaskFilter | None = None, file: Path | None = None) -> Audit:
    """Return an audit that has not begun."""
    return Audit(database, DEFAULT_POLICY, wanted or TaskFilter(), Checkpoint(file, {}))


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read suspects again at once."""
    monkeypatch.setattr("asynq_ttl.existing_keys.audit.audit._MOVED_SECONDS", 0)


def test_a_sound_database_has_no_findings() -> None:
    """All keys are counted, tasks apart; every task of these few is measured."""
    database = ScriptedDatabase(
        [
            task_of("pending"),
            task_of("active", name="b", score=NOW),
            task_of("archived", name="c", score=NOW, ttl_ms=5),
        ],
        lists={PENDING: [b"a"], index_key("q", "active"): [b"b"]},
    )
    database.more_keys = [PENDING, index_key("q", "archived"), b"asynq:servers", b"asynq:queues"]
    database.indexes.pop(index_key("q", "active"))
    walk = audit(database)
    assert walk.run(["q"]) == []
    assert (walk.now, walk.tally.keys, walk.tally.other_keys) == (NOW, 7, 4)
    assert {key: group.sampled for key, group in walk.tally.groups.items()} == {
        ("q", "pending"): 1,
        ("q", "active"): 1,
        ("q", "archived"): 1,
    }
    assert walk.tally.indexes == {"q": 3000}


def test_findings_come_worst_first() -> None:
    """Each with its count and examples."""
    database = ScriptedDatabase([task_of("archived", score=NOW, locked=True), task_of("pending", name="b", ttl_ms=5)])
    database.lists[PENDING] = [b"b", b"gone"]
    found = audit(database).run(["q"])
    assert [(finding.code, finding.count) for finding in found] == [
        ("live-ttl", 1),
        ("waiting-gone", 1),
        ("untimed", 1),
        ("archived-lock", 1),
    ]


def test_a_live_task_that_is_nowhere_is_lost() -> None:
    """It counts as an orphan of its state as well."""
    walk = audit(ScriptedDatabase([task_of("pending"), task_of("retry", name="b")]))
    assert [(finding.code, finding.examples) for finding in walk.run(["q"])] == [
        ("lost", ["q: a is pending", "q: b is retry"])
    ]
    assert walk.tally.groups["q", "pending"].orphans == 1


def test_a_task_that_was_on_its_way_is_not_lost() -> None:
    """It is read again, several times, with the list it may have come into."""

    class Moving(ScriptedDatabase):
        """The task comes into its list when that is read for the third time."""

        reads = 0

        def run(self, name: str, key: bytes, *arguments: bytes | str | int) -> object:
            if name == "existing_keys/queue_places":
                self.reads += 1
                self.lists[PENDING] = [b"a"] if self.reads > 2 else []
            return super().run(name, key, *arguments)

    database = Moving([task_of("pending")])
    assert audit(database).run(["q"]) == []
    assert database.reads == 3


def test_a_key_that_is_no_hash_is_of_the_wrong_type() -> None:
    """So is a list that is none; its tasks are not lost for that. A key that is merely gone again is nothing."""

    class Odd(ScriptedDatabase):
        def _row(self, key: bytes) -> list[object]:
            return [b"no hash"] if key.endswith(b"odd") else super()._row(key)

    tasks = [Task("q", b"gone", "", exists=False), task_of("pending", name="odd"), task_of("pending", name="waits")]
    database = Odd(tasks)
    database.types = {PENDING: b"string", b"asynq:servers": b"set", b"asynq:workers": b"zset"}
    database.more_keys = [b"asynq:servers", b"asynq:workers", b"asynq:mine"]
    (finding,) = audit(database).run(["q"])
    odd = ["asynq:servers", "asynq:{q}:pending", "asynq:{q}:t:odd"]
    assert (finding.code, sorted(finding.examples)) == ("wrong-type", odd)


def test_names_that_can_be_read_twice_are_told() -> None:
    """Of queues by `Database.queues`, of tasks here; neither is counted."""
    database = ScriptedDatabase([task_of("archived", name="zz}:t:a")])
    database.left_out.add_ambiguous("a}")
    walk = audit(database)
    (finding,) = walk.run(["q"])
    assert (finding.code, finding.examples) == ("ambiguous", ["a}", "asynq:{q}:t:zz}:t:a"])
    assert walk.tally.groups == {}


def test_a_queue_that_is_not_listed_is_found_once() -> None:
    """However many keys it has."""
    database = ScriptedDatabase()
    database.more_keys = [
        b"asynq:{lost}:pending",
        b"asynq:{lost}:active",
        b"asynq:{q}:pending",
        b"asynq:{odd",
    ]
    found = audit(database).run(["q"])
    assert [(finding.code, finding.count, finding.examples) for finding in found] == [("unlisted", 1, ["lost"])]


@pytest.mark.parametrize(
    ("policy", "found"),
    [
        (DEFAULT_POLICY, [("scheduler-history", ["asynq:scheduler_history:kept"])]),
        (Policy((), scheduler_history=60), [("untimed-history", ["asynq:scheduler_history:kept"])]),
    ],
)
def test_histories_are_counted(policy: Policy, found: list[tuple[str, list[str]]]) -> None:
    """One without a TTL is told of: to be given one by the policy, or left over, as no scheduler has its entry."""
    database = ScriptedDatabase()
    database.histories = {
        b"asynq:scheduler_history:timed": (NOW, 5),
        b"asynq:scheduler_history:kept": (NOW, -1),
    }
    walk = Audit(database, policy, TaskFilter(), Checkpoint(None, {}))
    assert [(finding.code, finding.examples) for finding in walk.run(["q"])] == found
    assert (walk.tally.histories, walk.tally.timed_histories) == (2, 1)


def test_only_queues_that_are_asked_for() -> None:
    """Neither their lists nor their tasks are counted otherwise."""
    database = ScriptedDatabase([task_of("pending", queue="p")], lists={index_key("p", "pending"): [b"gone"]})
    database.more_keys = [b"asynq:{lost}:pending"]
    walk = audit(database, TaskFilter((compile_glob("q"),)))
    assert walk.run(["p", "q"]) == []
    assert (walk.tally.groups, walk.tally.keys) == ({}, 2)


def test_an_audit_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it had counted and with its first start; lists and sets are not counted again. Then the file goes."""
    monkeypatch.setattr("asynq_ttl.existing_keys.audit.checkpoint._SAVE_SECONDS", 0)
    tasks = [task_of("pending", name=f"{number}") for number in range(6)]
    database = ScriptedDatabase(tasks, lists={PENDING: [b"gone", *(task.id for task in tasks)]})
    tally = Tally(keys=4)
    tally.add_problem("waiting-gone", "q: gone in pending")
    file = tmp_path / "checkpoint"
    Checkpoint(file, {}).save(Progress(NOW - 100, 4, tally, {("q", "pending"): [b"lost"]}))
    walk = audit(database, file=file)
    (finding,) = walk.run(["q"])
    assert (finding.code, finding.count) == ("waiting-gone", 1)
    assert (walk.now, walk.tally.keys, walk.tally.groups["q", "pending"].tasks) == (NOW - 100, 6, 2)
    assert not file.exists()
