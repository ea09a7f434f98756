"""What `backfill` and `persist` share: what is listed, summed up and written down, and what may be resumed."""

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from asynq_ttl.cli.changing import Run, apply_option, changes, run_options, told_filter
from asynq_ttl.existing_keys.changes import Change, change_of
from asynq_ttl.existing_keys.pages import TaskFilter
from asynq_ttl.existing_keys.run_journal import JournalError
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.plan import Act, Plan
from support.scripted_database import NOW, ScriptedDatabase, task_of

TOLD = {"tool": "test"}


def some(count: int, **task: Any) -> list[Change]:
    """Return changes of archived tasks."""
    plan = Plan(Act.TTL, "week", "due at noon", NOW + 60)
    return [
        change_of(task_of("archived", name=f"id-{n}", score=5, **task), plan, index="archived") for n in range(count)
    ]


def changed(run: Run, made: list[Change], results: tuple[int, ...] = ()) -> None:
    """Make changes as a walk does."""
    database = ScriptedDatabase()
    database.results = list(results)
    with changes(database, run, TOLD) as given:
        assert given.position == ()
        given.changer.make(made, ("scan", 0))


def test_the_options_come_as_one_argument() -> None:
    """With the command's own --apply, wherever that stands."""
    seen: list[tuple[Run, str]] = []

    @click.command()
    @apply_option
    @click.option("--other")
    @run_options
    def command(*, run: Run, other: str) -> None:
        seen.append((run, other))

    line = ["--journal", "j", "--show", "3", "--apply", "--other", "x", "--resume"]
    assert CliRunner().invoke(command, line).exit_code == 0
    assert CliRunner().invoke(command, []).exit_code == 0
    assert seen == [(Run(True, Path("j"), True, 3), "x"), (Run(False, None, False, 50), None)]
    assert CliRunner().invoke(command, ["--show", "-1"]).exit_code == 2


@pytest.mark.parametrize(
    ("run", "right"),
    [
        (Run(True, Path("j"), True, 0), True),
        (Run(False, None, False, 0), True),
        (Run(False, Path("j"), True, 0), False),
        (Run(True, None, True, 0), False),
    ],
)
def test_only_a_run_that_has_changed_something_can_be_resumed(
    run: Run, right: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """From its journal; anything else is a mistake of whoever typed it."""
    if right:
        run.check()
        return
    with pytest.raises(SystemExit) as ended:
        run.check()
    assert ended.value.code == 2
    assert "give --apply and the --journal it wrote" in capsys.readouterr().err


def test_so_many_are_listed_and_all_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run says what would be, and that it was one."""
    changed(Run(False, None, False, 2), some(5))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "would ttl  q  archived  id-0  x  due at noon, rule week",
        "would ttl  q  archived  id-1  x  due at noon, rule week",
        "... and 3 more; --journal FILE gets all of them",
    ]
    assert "Dry run: --apply would change 5 tasks" in lines[3]
    assert lines[-2].replace(" ", "").strip("│") == "q│archived│week│ttl│5"


@pytest.mark.parametrize("name", ["[b]", "[/b]", r"a\[/b]x"])
def test_names_are_shown_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets in them are no markup."""
    task = task_of("archived", queue=name, score=5)
    changed(Run(False, None, False, 0), [change_of(task, Plan(Act.TTL, name, "due", NOW), index="archived")])
    row = capsys.readouterr().out.splitlines()[-2]
    assert [cell.strip() for cell in row.strip("│").split("│")] == [name, "archived", name, "ttl", "1"]


def test_what_was_no_longer_so_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """It was left alone, and is in no sum."""
    changed(Run(True, None, False, 1), some(3), (1, 0, 0))
    captured = capsys.readouterr()
    assert captured.out.startswith("ttl  q  archived  id-0")
    assert "Changed 1 tasks" in captured.out
    assert captured.err == "2 tasks were no longer what they had been, and were left alone\n"


@pytest.mark.parametrize(("results", "told"), [((), "Nothing to change.\n"), ((0,), "Nothing was changed.\n")])
def test_nothing_is_told_too(results: tuple[int, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether there was nothing, or somebody else was faster."""
    changed(Run(True, None, False, 0), some(len(results)), results)
    assert capsys.readouterr().out.endswith(told)


def test_what_a_terminal_would_obey_is_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """A type is whatever a client has sent."""
    changed(Run(False, None, False, 1), some(1, task_type="x\x1b[0m"))
    assert "  x?[0m  " in capsys.readouterr().out


def test_the_journal_has_every_change_and_the_end(tmp_path: Path) -> None:
    """Also those that are not listed."""
    journal = tmp_path / "journal"
    changed(Run(True, journal, False, 0), some(3), (1, 1, 0))
    first, *made, last = [json.loads(line) for line in journal.read_text().splitlines()]
    assert first == {"run": TOLD, "now": NOW}
    assert [line["id"] for line in made] == ["id-0", "id-1"]
    assert last == {"end": {"changed": [["q", "archived", "week", "ttl", 2]], "left_alone": 1}}


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no summary and no end; resumed, its time is that of its first start, and its work is in the sum."""
    journal = tmp_path / "journal"

    def interrupted() -> None:
        with changes(ScriptedDatabase(), Run(True, journal, False, 0), TOLD) as given:
            given.changer.make(some(2), ("scan", 7))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "Changed" not in capsys.readouterr().out
    with pytest.raises(JournalError), changes(ScriptedDatabase(), Run(True, journal, True, 0), {"tool": "other"}):
        pytest.fail("another run is no continuation")
    with changes(ScriptedDatabase(), Run(True, journal, True, 0), TOLD) as given:
        assert (given.now, tuple(given.position)) == (NOW, ("scan", 7))
    assert "Changed 2 tasks" in capsys.readouterr().out


def test_without_a_journal_nobody_remembers_the_time() -> None:
    """Redis is not asked for it."""
    with changes(ScriptedDatabase(), Run(False, None, False, 0), TOLD) as given:
        assert given.now is None


def test_a_filter_in_a_journal() -> None:
    """As it was typed, so that a resumed run can be compared."""
    wanted = TaskFilter((compile_glob("a*"),), (compile_glob("t"), compile_glob("u")), ("archived",))
    assert told_filter(wanted) == {"queues": ["a*"], "types": ["t", "u"], "states": ["archived"]}


def test_a_run_that_has_left_something_of_a_cluster_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not at its end: it says how to go on, and can."""
    journal = tmp_path / "journal"
    for resume in (False, True):
        database = ScriptedDatabase()
        if not resume:
            database.left_out.add_unread("node h:1: refused")
        with changes(database, Run(apply=True, journal=journal, resume=resume, show=5), {}) as made:
            assert made.position == ()
        assert ("--resume" in capsys.readouterr().err) == (not resume)
    assert "end" in journal.read_text()
