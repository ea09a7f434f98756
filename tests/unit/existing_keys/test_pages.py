from asynq_ttl.asynq.keys import index_key
from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.pages import START, TaskFilter, index_pages, read_tasks, task_pages, tasks_of
from asynq_ttl.policy.glob import compile_glob
from support.scripted_database import ScriptedDatabase, task_of


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
    odd = task_of("archived", name="a}:t:b", queue="p")
    database = ScriptedDatabase([task_of("archived"), odd])
    keys = [*reversed(database.tasks), b"asynq:{q}:archived", b"asynq:servers", b"user"]
    assert [(task.queue, task.id) for task in tasks_of(database, keys, "head")] == [("p", b"a}:t:b"), ("q", b"a")]


def test_tasks_are_read_on_where_the_budget_was_spent() -> None:
    """A script that returns fewer rows than it was asked for is asked for the rest."""
    names = [f"{number:03}" for number in range(120)]
    database = ScriptedDatabase([task_of("pending", name=name) for name in names], page=7)
    assert ids(list(read_tasks(database, "q", [name.encode() for name in names], "head"))) == names


def test_an_index_is_read_lowest_scores_first_from_where_it_is_told() -> None:
    """With equal scores, by ID."""
    tasks = [task_of("archived", name=name, score=score) for name, score in (("c", 1), ("a", 2), ("b", 2), ("d", 3))]
    database = ScriptedDatabase(tasks, page=2)
    pages = [[entry.task.id for entry in page] for page in index_pages(database, "q", "archived")]
    assert pages == [[b"c", b"a"], [b"b", b"d"]]
    rest = index_pages(database, "q", "archived", after=(b"2", b"a"))
    assert [entry.task.id for page in rest for entry in page] == [b"b", b"d"]
    assert list(index_pages(database, "q", "completed", after=START)) == []


def test_no_entry_comes_twice_where_the_last_one_of_a_page_is_gone() -> None:
    """The script then begins again with the score of the last entry."""
    database = ScriptedDatabase([task_of("archived", name=f"{number}", score=5) for number in range(6)], page=3)
    seen = []
    for page in index_pages(database, "q", "archived"):
        seen += [entry.task.id.decode() for entry in page]
        database.indexes[index_key("q", "archived")] = [
            entry for entry in database.indexes[index_key("q", "archived")] if entry[1].decode() not in seen[-1:]
        ]
    assert seen == ["0", "1", "2", "3", "4", "5"]
