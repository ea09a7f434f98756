"""How histories are read and changed. That the scripts do so: `tests/integration/existing_keys/test_histories.py`."""

import pytest

from asynq_ttl.existing_keys.changes import Change, Changer
from asynq_ttl.existing_keys.scheduler_histories import History, begun_at, histories_of, walk_histories
from asynq_ttl.policy.plan import Act, Plan
from support.scripted_database import NOW, ScriptedDatabase

PREFIX = b"asynq:scheduler_history:"
PLAN = Plan(Act.TTL, "scheduler_history", "why", NOW + 60)


def scripted(*names: bytes) -> ScriptedDatabase:
    """Return a database with histories of these entries."""
    database = ScriptedDatabase()
    database.histories = {PREFIX + name: (NOW, -1) for name in names}
    return database


@pytest.mark.parametrize(
    ("score", "newest"),
    [(b"1700000000", NOW), (b"1700000000.5", NOW), (b"0", 0), (b"-5", 0), (b"inf", 0), (b"1e300", 0)],
)
def test_a_score_tells_when_it_was_added_to(score: bytes, newest: int) -> None:
    """Or it does not."""
    assert History(b"e", score, -1).newest == newest


def test_what_is_no_history_is_passed_over() -> None:
    """A key that is gone without a word, one of another type is named."""
    database = scripted(b"a")
    database.types[PREFIX + b"b"] = b"string"
    found = list(histories_of(database, [PREFIX + b"a", PREFIX + b"b", PREFIX + b"gone"]))
    assert found == [History(b"a", b"%d" % NOW, -1)]
    assert database.left_out.wrong == ["asynq:scheduler_history:b"]


@pytest.mark.parametrize(("apply", "made"), [(True, 5), (False, 0)])
def test_a_walk_changes_what_is_planned(apply: bool, made: int) -> None:
    """Page by page; each names all that decided it."""
    database, shown, seen = scripted(*(b"%d" % number for number in range(6))), list[Change](), list[int]()
    changer = Changer(database, None, apply=apply, show=shown.append)
    plan = lambda history: None if history.entry_id == b"3" else PLAN  # noqa: E731 - one line
    walk_histories(database, changer, plan, advance=seen.append)
    assert [change.id for change in shown] == ["0", "1", "2", "4", "5"]
    assert seen == [4, 2]
    assert len(database.changes) == made
    expires = b"%d" % NOW, "none", "ttl", str((NOW + 60) * 1000)
    assert database.changes[:1] in ([], [(PREFIX + b"0", expires[0].decode(), *expires[1:])])
    assert changer.counts == {("", "scheduler_history", "scheduler_history", "ttl"): 5}


def test_a_walk_goes_on_at_its_cursor() -> None:
    """A position of another walk is before its beginning."""
    database, shown = scripted(*(b"%d" % number for number in range(6))), list[Change]()
    cursor = begun_at(("scheduler_history", 4))
    walk_histories(database, Changer(database, None, apply=False, show=shown.append), lambda _: PLAN, cursor)
    assert [change.id for change in shown] == ["4", "5"]
    assert (begun_at(()), begun_at(("scan", 7))) == (0, 0)
