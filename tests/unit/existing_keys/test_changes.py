"""What a `Changer` shows, counts and writes down. What the script changes: `tests/integration/existing_keys/`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from asynq_ttl.existing_keys.changes import Change, Changer, change_of
from asynq_ttl.existing_keys.run_journal import RunJournal
from asynq_ttl.policy.plan import Act, Plan
from support.scripted_database import ScriptedDatabase, task_of

TTL = Plan(Act.TTL, "r", "due", 1_800_000_000)
RUN = {"tool": "backfill"}


def change(name: str = "a", plan: Plan = TTL, queue: str = "q") -> Change:
    """Return a change of an archived task."""
    return change_of(task_of("archived", name=name, queue=queue, score=5), plan, index="archived")


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a journal that are changes."""
    return [line for line in map(json.loads, path.read_text().splitlines()) if "page" in line]


def changer(database: ScriptedDatabase, journal: RunJournal | None = None, *, apply: bool = True) -> Changer:
    """Return a changer that shows nothing."""
    return Changer(database, journal, apply=apply, show=lambda _: None)


def test_a_change_names_everything_that_decided_it() -> None:
    """And the script's nine arguments are in their order."""
    plan = Plan(Act.TTL, "r", "due", 1_800_000_000, score=7)
    made = change_of(task_of("archived", score=5), plan, index="archived")
    assert made.arguments == (b"a", "archived", "archived", "5", "digest", "none", "ttl", "1800000000000", "7")


@pytest.mark.parametrize(
    ("score", "given", "told"), [(5, None, "5"), (None, None, "-"), (5, b"6.5", "6.5"), (5, "", "")]
)
def test_the_score_is_that_of_the_task_unless_it_is_given(
    score: int | None, given: bytes | str | None, told: str
) -> None:
    """`-` says that it is in no index."""
    assert change_of(task_of("archived", score=score), TTL, index="archived", score=given).score == told


def test_an_id_that_is_not_utf8_comes_through() -> None:
    """To the script as the same bytes, into the journal as text."""
    made = change("a\udcff")
    assert made.arguments[0] == b"a\xff"
    assert json.loads(json.dumps(made.journal_line()))["id"] == "a\udcff"


def test_the_journal_leaves_empty_parts_out() -> None:
    """But not a size of nothing."""
    line = change(plan=Plan(Act.PERSIST, "", "why")).journal_line()
    assert not {"rule", "expires_at_ms", "new_score"} & set(line)
    assert line["action"] == "persist"


def test_a_dry_run_shows_and_counts_but_changes_nothing(tmp_path: Path) -> None:
    """The journal gets what would be done."""
    database, shown = ScriptedDatabase(), list[Change]()
    with RunJournal(tmp_path / "journal", RUN, 5) as journal:
        dry = Changer(database, journal, apply=False, show=shown.append)
        dry.make([change("a"), change("b")], ())
    assert [each.id for each in shown] == ["a", "b"]
    assert dry.counts == {("q", "archived", "r", "ttl"): 2}
    assert [line["id"] for line in lines(tmp_path / "journal")] == ["a", "b"]
    assert database.changes == []


def test_what_the_script_did_not_change_is_missed() -> None:
    """It is neither counted as a change, nor is it in the journal."""
    database = ScriptedDatabase()
    database.results = [1, 0, 2]
    applying = changer(database)
    applying.make([change("a"), change("b"), change("c")], ())
    assert (applying.missed, sum(applying.counts.values())) == (2, 1)


def test_changes_are_made_in_pages() -> None:
    """Each is shown, made and written down before the next one is begun."""
    database = ScriptedDatabase()
    at_show: list[int] = []
    applying = Changer(database, None, apply=True, show=lambda _: at_show.append(len(database.changes)))
    applying.make([change(f"{number:03}") for number in range(120)], ())
    assert [at_show.count(made) for made in (0, 50, 100)] == [50, 50, 20]
    assert len(database.changes) == 120


def test_a_page_is_written_down_before_it_is_made(tmp_path: Path) -> None:
    """Where Redis fails meanwhile, the journal says what was begun, and where to go on."""

    class Failing(ScriptedDatabase):
        def run(self, name: str, key: bytes, *arguments: bytes | str | int) -> Any:
            raise ConnectionError

    with RunJournal(tmp_path / "journal", RUN, 5) as journal:
        with pytest.raises(ConnectionError):
            changer(Failing(), journal).make([change("a")], ("scan", 7))
        begun = journal.begun()
    assert begun is not None
    assert (begun.position, [each["id"] for each in begun.changes]) == (("scan", 7), ["a"])
    assert lines(tmp_path / "journal") == []


def test_an_interrupted_page_is_finished(tmp_path: Path) -> None:
    """What it had written counts; what it had changed without writing that down (2) is written now, and counts."""
    path = tmp_path / "journal"
    with RunJournal(path, RUN, 5) as journal:
        applying = changer(ScriptedDatabase(), journal)
        applying.make([change("before")], ("scan", 3))
        journal.begin(("scan", 7), [asdict(each) for each in map(change, "abcd")])
        journal.record(2, [change("a").journal_line()])
    database = ScriptedDatabase()
    database.results = [2, 2, 1, 0]
    with RunJournal(path, RUN, 9, resume=True) as journal:
        resumed = changer(database, journal)
        assert resumed.resume() == ("scan", 7)
    assert [line["id"] for line in lines(path)] == ["before", "a", "b", "c"]
    assert resumed.counts == {("q", "archived", "r", "ttl"): 4}


def test_without_a_journal_a_run_begins_at_the_beginning() -> None:
    """There is nothing to finish."""
    assert changer(ScriptedDatabase()).resume() == ()


@pytest.mark.parametrize(("servers", "position"), [("m:1", ("scan", 7)), ("r:1", ())])
def test_an_interrupted_run_after_a_failover(servers: str, position: tuple[str | int, ...], tmp_path: Path) -> None:
    """It begins at the beginning: nobody knows what the replica had received."""

    class OfCluster(ScriptedDatabase):
        @property
        def servers(self) -> str:
            return servers

    with RunJournal(tmp_path / "journal", {}, 5) as journal:
        journal.begin(("scan", 7), [], "m:1")
    with RunJournal(tmp_path / "journal", {}, 9, resume=True) as journal:
        assert changer(OfCluster(), journal).resume() == position
