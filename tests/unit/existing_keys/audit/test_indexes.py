import pytest

from asynq_ttl.asynq.keys import index_key
from asynq_ttl.existing_keys.audit.counts import Tally
from asynq_ttl.existing_keys.audit.indexes import Indexes, problem_of
from asynq_ttl.existing_keys.queue_places import Place, queue_places
from asynq_ttl.policy.rules import OWN_ARCHIVE_CAP
from support.scripted_database import NOW, ScriptedDatabase, task_of


def places(database: ScriptedDatabase) -> list[Place]:
    """Return the lists and sorted sets of the queue `q`."""
    return list(queue_places(database, ["q"]))


PENDING, ACTIVE = index_key("q", "pending"), index_key("q", "active")


def test_the_ids_of_lists_that_have_no_task() -> None:
    """In `pending` and in `active` each has its problem; every ID is counted as progress."""
    database = ScriptedDatabase(
        [task_of("pending"), task_of("active", name="b")], lists={PENDING: [b"a", b"gone"], ACTIVE: [b"b", b"lost"]}
    )
    tally, steps = Tally(), list[int]()
    Indexes(database, steps.append).read_lists(places(database), tally)
    assert tally.problems == {"waiting-gone": 1, "active-gone": 1}
    assert tally.examples == {"waiting-gone": ["q: gone in pending"], "active-gone": ["q: lost in active"]}
    assert sum(steps) == 4


def test_it_is_remembered_what_is_in_the_lists() -> None:
    """As of the last time they were read, however long they are; reading them again counts nothing."""
    names = [f"{number}" for number in range(450)]
    database = ScriptedDatabase([task_of("pending", name=name) for name in names])
    database.lists[PENDING] = [name.encode() for name in names]
    indexes = Indexes(database)
    assert not indexes.lists(task_of("pending", name="0"))
    indexes.read_lists(places(database))
    assert all(indexes.lists(task_of("pending", name=name)) for name in names)
    assert not indexes.lists(task_of("pending", name="450"))
    assert not indexes.lists(task_of("active", name="0"))
    assert not indexes.lists(task_of("pending", name="0", queue="p"))
    database.lists[PENDING] = []
    indexes.read_lists(places(database))
    assert not indexes.lists(task_of("pending", name="0"))


@pytest.mark.parametrize(
    ("state", "found", "code"),
    [
        ("archived", "", "ghost"),
        ("archived", "completed", "ghost"),
        ("completed", "pending", "ghost-live"),
        ("archived", "aggregating", "ghost-live"),
        ("scheduled", "", "waiting-gone"),
        ("retry", "pending", "waiting-gone"),
        ("active", "", "active-gone"),
    ],
)
def test_the_problem_of_an_entry(state: str, found: str, code: str) -> None:
    """A terminal entry whose task is alive is worse than one whose task is gone."""
    assert problem_of(state, found) == code


def test_entries_whose_task_is_in_another_state() -> None:
    """In every sorted set; a lease belongs to a task that is active."""
    database = ScriptedDatabase([task_of("archived", name="right", score=NOW), task_of("pending", name="again")])
    database.indexes[index_key("q", "archived")] += [(NOW, b"again"), (NOW, b"gone")]
    database.indexes[index_key("q", "lease")] = [(NOW, b"again")]
    tally, steps = Tally(), list[int]()
    Indexes(database, steps.append).check_sorted_sets(places(database), tally)
    assert tally.problems == {"ghost-live": 1, "ghost": 1, "active-gone": 1}
    assert tally.examples["ghost"] == ["q: gone in archived, the task is gone"]
    assert tally.examples["active-gone"] == ["q: again in lease, the task is pending"]
    assert sum(steps) == 4


@pytest.mark.parametrize(("entries", "problems"), [(OWN_ARCHIVE_CAP - 1, {}), (OWN_ARCHIVE_CAP, {"at-cap": 1})])
def test_an_archive_at_asynqs_cap(entries: int, problems: dict[str, int]) -> None:
    """Page by page, all of its entries are counted."""
    tasks = [task_of("archived", name=f"{number:05}", score=NOW) for number in range(entries)]
    tally = Tally()
    database = ScriptedDatabase(tasks)
    Indexes(database).check_sorted_sets(places(database), tally)
    assert tally.problems == problems


def test_each_list_and_set_is_measured() -> None:
    """Leases included, and however many there are."""
    found = [Place(f"q{number}", name, 1) for number in range(60) for name in ("pending", "lease")]
    assert list(Indexes(ScriptedDatabase()).bytes_of(found)) == [(place.queue, 1000) for place in found]
