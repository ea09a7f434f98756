from asynq_ttl.existing_keys.in_step import Walk, in_step
from asynq_ttl.existing_keys.queue_places import Place
from support.scripted_database import ScriptedDatabase


class Counting(ScriptedDatabase):
    """A database that remembers which calls shared a round trip, and replies with their number."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds: list[list[str]] = []

    def run_all(self, name: str, calls: object) -> list[int]:
        """Take down the first argument of each."""
        asked = [str(call[0]) for call in calls]  # type: ignore[attr-defined]
        self.rounds.append(asked)
        return list(range(len(asked)))


def walk(name: str, steps: int) -> Walk:
    """Take some steps."""
    for _ in range(steps):
        yield (name,)


def test_short_walks_share_round_trips() -> None:
    """Each is taken to its end before others begin; a long one has them to itself."""
    database = Counting()
    lengths = {"a": (5, 1), "b": (150, 2), "c": (900, 3), "d": (1, 1)}
    walks = [(Place(name, "pending", length), walk(name, steps)) for name, (length, steps) in lengths.items()]
    in_step(database, "script", walks)
    assert database.rounds == [["a", "b"], ["b"], ["c"], ["c"], ["c"], ["d"]]


def test_many_short_walks_are_not_all_in_one() -> None:
    """However short they are."""
    database = Counting()
    in_step(database, "script", [(Place(f"{number}", "pending", 0), walk("x", 1)) for number in range(120)])
    assert [len(calls) for calls in database.rounds] == [50, 50, 20]
    in_step(database, "script", [])
    assert len(database.rounds) == 3
