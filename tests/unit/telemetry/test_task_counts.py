"""How many tasks of each kind were seen."""

from asynq_ttl.telemetry import task_counts
from asynq_ttl.telemetry.task_counts import TaskCounts
from support.recorded import decision


def test_tasks_are_counted_by_their_kinds() -> None:
    """Queue, type, state and Asynq's own retention tell kinds apart; tasks and bytes are counted."""
    seen = TaskCounts()
    for size in (100, 50):
        seen.add(decision(size_bytes=size), 0)
    seen.add(decision(task_type="other"), 0)
    seen.add(decision(state="completed", own_seconds=60), 0)
    assert {kind: (count.tasks, count.size_bytes) for kind, count in seen.kinds.items()} == {
        ("mail", "email:send", "archived", 7_776_000): (2, 150),
        ("mail", "other", "archived", 7_776_000): (1, 100),
        ("mail", "email:send", "completed", 60): (1, 100),
    }


def test_bulk_operations_are_not_told_apart() -> None:
    """Their tasks' types are not known; running tasks enters no terminal state."""
    seen = TaskCounts()
    seen.add(decision(own_seconds=None, task_id=""), 12)
    seen.add(decision(own_seconds=None, state="pending"), 5)
    assert (seen.kinds, seen.others.tasks) == ({}, 12)


def test_it_is_bounded() -> None:
    """Past the limit new kinds are counted together, and so are those with long names."""
    seen = TaskCounts()
    for number in range(task_counts.MAX_KINDS + 5):
        seen.add(decision(task_type=str(number)), 0)
    seen.add(decision(task_type="1"), 0)
    seen.add(decision(task_type="x" * 2_000), 0)
    assert len(seen.kinds) == task_counts.MAX_KINDS
    assert seen.others.tasks == 6
    assert seen.others.size_bytes == 600
