from dataclasses import replace

from asynq_ttl.asynq.keys import index_key
from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.pages import (
    TaskFilter,
    index_pages,
    index_rounds,
    read_tasks,
    task_pages,
    tasks_of,
    whole_tasks,
)
from asynq_ttl.existing_keys.queue_places import Place
from asynq_ttl.policy.glob import compile_glob
from support.scripted_database import ScriptedDatabase, task_of
from support.task_message import encode_task

ARCHIVED = Place("q", "archived", 10)


def ids(tasks: list[Task]) -> list[str]:
    """Return the IDs of tasks."""
    return [task.id.decode() for task in tasks]


def test_a_filter_with_empty_parts_matches_every_task() -> None:
    """Also one whose message cannot be read, which has no type."""
    assert TaskFilter().matches_queue("q")
    assert TaskFilter().matches(Task("q", b"a", ""))


def test_a_filter_matches_by_queue_state_and_type() -> None:
    """One glob that matches is enough; state and type must both match."""
    wanted = TaskFilter((compile_glob("mail*"), compile_glob("b")), (compile_glob("x:*"),), ("archived",))
    assert [wanted.matches_queue(name) for name in ("mail:1", "b", "c")] == [True, True, False]
    assert wanted.matches(task_of("archived", task_type="x:1"))
    assert not wanted.matches(task_of("completed", task_type="x:1"))
    assert not wanted.matches(task_of("archived", task_type="y"))


def test_every_task_is_read_once_where_nothing_changes() -> None:
    """Page by page; the last cursor is 0. A walk that goes on reads what comes after its cursor."""
    database = ScriptedDatabase([task_of("archived", name=f"{number:02}") for number in range(10)])
    pages = list(task_pages(database))
    assert [cursor for cursor, _ in pages] == [4, 8, 0]
    assert ids([task for _, page in pages for task in page]) == [f"{number:02}" for number in range(10)]
    assert ids([task for _, page in task_pages(database, cursor=8) for task in page]) == ["08", "09"]


def test_a_key_that_is_gone_is_no_task_of_a_page() -> None:
    """It was deleted between the scan and the script that reads it."""
    database = ScriptedDatabase([task_of("archived"), Task("q", b"gone", "", exists=False)])
    assert [ids(page) for _, page in task_pages(database)] == [["a"]]


def test_keys_that_are_no_tasks_are_passed_over() -> None:
    """Keys of several queues are read queue by queue; IDs may have anything in them."""
    odd = task_of("archived", name="a}:b", queue="p")
    database = ScriptedDatabase([task_of("archived"), odd])
    keys = [*reversed(database.tasks), b"user"]
    assert [(task.queue, task.id) for task in tasks_of(database, keys, "head")] == [("p", b"a}:b"), ("q", b"a")]
    assert not database.left_out


def test_a_key_that_can_be_read_twice_is_left_out() -> None:
    """A task of queue `a}:t:zz`, or one of queue `a` with an odd ID? That is known only of what an index of `a` has."""
    tasks = [task_of("archived", name="zz}:t:x", queue="a"), task_of("archived", name="zz}:t:y", queue="a", score=5)]
    database = ScriptedDatabase(tasks)
    keys = [*database.tasks, b"asynq:{b}:x}:t:1"]
    assert [task.id for task in tasks_of(database, keys, "head")] == [b"zz}:t:y"]
    assert sorted(database.left_out.ambiguous) == ["asynq:{a}:t:zz}:t:x", "asynq:{b}:x}:t:1"]


def test_tasks_are_read_on_where_the_budget_was_spent() -> None:
    """A script that returns fewer rows than it was asked for is asked for the rest."""
    names = [f"{number:03}" for number in range(120)]
    database = ScriptedDatabase([task_of("pending", name=name) for name in names], page=7)
    found = ids(list(read_tasks(database, [("q", [name.encode() for name in names])], "head")))
    assert sorted(found) == names


def test_an_index_is_read_lowest_scores_first_from_where_it_is_told() -> None:
    """With equal scores, by ID."""
    tasks = [task_of("archived", name=name, score=score) for name, score in (("c", 1), ("a", 2), ("b", 2), ("d", 3))]
    database = ScriptedDatabase(tasks, page=2)
    pages = [[entry.task.id for entry in page] for page in index_pages(database, ARCHIVED)]
    assert pages == [[b"c", b"a"], [b"b", b"d"]]
    rest = [page for pages in index_rounds(database, [ARCHIVED], after=(b"2", b"a")) for page in pages]
    assert [entry.task.id for page in rest for entry in page.entries] == [b"b", b"d"]
    assert [page.after for page in rest] == [(b"2", b"a"), (b"3", b"d")]
    assert list(index_pages(database, Place("q", "completed", 0))) == []


def test_small_indexes_share_a_round() -> None:
    """Large ones do not; each is read to its end, and a round has no more than a page's entries in it."""
    sizes = {"a": 1, "b": 2, "c": 60, "d": 1}
    tasks = [
        task_of("archived", name=f"{number:02}", queue=queue, score=5)
        for queue, size in sizes.items()
        for number in range(size)
    ]
    database = ScriptedDatabase(tasks)
    places = [Place(queue, "archived", size) for queue, size in sizes.items()]
    rounds = [[(page.place.queue, len(page.entries)) for page in pages] for pages in index_rounds(database, places)]
    assert rounds == [
        [("a", 1), ("b", 2)],
        [("a", 0), ("b", 0)],
        [("c", 50)],
        [("c", 10)],
        [("c", 0)],
        [("d", 1)],
        [("d", 0)],
    ]


def test_a_message_that_is_too_long_for_a_script_is_read_by_itself() -> None:
    """With state and result of that moment; only a whole task keeps its payload."""
    long = replace(task_of("archived", name="long", score=5), record=None, size=5 << 20)
    database = ScriptedDatabase([long, replace(long, id=b"gone", size=6 << 20)])
    message = encode_task("mail", "long", "q", payload=b"x")
    key = b"asynq:{q}:t:long"
    database.hashes[key] = {"state": b"completed", "msg": message, "result": b"done"}
    (task,) = whole_tasks(database, lambda _: None)
    assert (task.type, task.state, task.result, task.size) == ("mail", "completed", b"done", len(message))
    assert task.record is not None
    assert task.record.payload == b"x"
    (task,) = tasks_of(database, [key], "head")
    assert task.record is not None
    assert (task.type, task.record.payload) == ("mail", b"")


def test_no_entry_comes_twice_where_the_last_one_of_a_page_is_gone() -> None:
    """The script then begins again with the score of the last entry."""
    database = ScriptedDatabase([task_of("archived", name=f"{number}", score=5) for number in range(6)], page=3)
    seen = []
    for page in index_pages(database, ARCHIVED):
        seen += [entry.task.id.decode() for entry in page]
        database.indexes[index_key("q", "archived")] = [
            entry for entry in database.indexes[index_key("q", "archived")] if entry[1].decode() not in seen[-1:]
        ]
    assert seen == ["0", "1", "2", "3", "4", "5"]
