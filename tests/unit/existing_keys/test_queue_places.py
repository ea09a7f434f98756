from asynq_ttl.asynq.keys import index_key
from asynq_ttl.existing_keys.queue_places import Place, queue_places
from support.scripted_database import NOW, ScriptedDatabase, task_of


def test_what_there_is_in_each_queue() -> None:
    """Lists and sorted sets with their lengths, of however many queues; what is not there is not named."""
    tasks = [task_of("archived", name="a", queue=f"q{number:03}", score=NOW) for number in range(120)]
    database = ScriptedDatabase(tasks, lists={index_key("q007", "pending"): [b"x", b"y"]})
    found = list(queue_places(database, [f"q{number:03}" for number in range(121)]))
    assert len(found) == 121
    assert [place for place in found if place.queue == "q007"] == [
        Place("q007", "pending", 2),
        Place("q007", "archived", 1),
    ]
    assert found[0].key == b"asynq:{q000}:archived"
    assert [place.name for place in queue_places(database, ["q007"], ["completed", "pending"])] == ["pending"]


def test_what_is_of_another_type_is_left_out() -> None:
    """By name."""
    database = ScriptedDatabase([task_of("archived", score=NOW), task_of("completed", name="b", score=NOW)])
    database.types[index_key("q", "completed")] = b"list"
    assert [place.name for place in queue_places(database, ["q"])] == ["archived"]
    assert database.left_out.wrong == ["asynq:{q}:completed"]
