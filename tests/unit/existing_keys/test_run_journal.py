import json
from pathlib import Path

import pytest

from asynq_ttl.existing_keys.run_journal import BegunPage, JournalError, RunJournal

RUN = {"tool": "backfill", "apply": True}


def test_a_run_that_goes_on_knows_the_page_it_was_making(tmp_path: Path) -> None:
    """And the time of its first start, and what it had written; a line cut short is gone."""
    path = tmp_path / "journal"
    first = RunJournal(path, RUN, 5)
    first.record(first.begin(("scan", 7), [{"id": "a"}]), [{"id": "a"}])
    first.begin(("index", "q", "archived", "5", "b\udcff"), [{"id": "b"}])
    with path.open("a") as file:
        file.write('{"page": 2, "id": "b"')
    first.__exit__(None, None, None)
    again = RunJournal(path, RUN, 9, resume=True)
    assert again.now == 5
    assert again.begun() == BegunPage(2, ("index", "q", "archived", "5", "b\udcff"), ({"id": "b"},))
    assert [line["id"] for line in again.changes()] == ["a"]
    again.record(2, [{"id": "b"}])
    assert again.new_page() == 3
    again.end({"changed": 2})
    again.__exit__(None, None, None)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [
        {"run": RUN, "now": 5},
        {"page": 1, "id": "a"},
        {"page": 2, "id": "b"},
        {"end": {"changed": 2}},
    ]
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_refused(tmp_path: Path) -> None:
    """A file that is there, one that is not, one that is no journal, another run, a run that ended."""
    path = tmp_path / "journal"
    with pytest.raises(JournalError, match="there is no run to go on with"):
        RunJournal(path, RUN, 5, resume=True)
    with RunJournal(path, RUN, 5):
        pass
    with pytest.raises(JournalError, match="is there already"):
        RunJournal(path, RUN, 5)
    with pytest.raises(JournalError, match="another apply, tool"):
        RunJournal(path, {"tool": "persist"}, 5, resume=True)
    with RunJournal(path, RUN, 5, resume=True) as journal:
        journal.end({})
    with pytest.raises(JournalError, match="came to its end"):
        RunJournal(path, RUN, 5, resume=True)
    for content in ("", "hello\n", "[1]\n", "{}\n"):
        path.write_text(content)
        with pytest.raises(JournalError, match="is not a journal"):
            RunJournal(path, RUN, 5, resume=True)
    with pytest.raises(JournalError, match="No such file"):
        RunJournal(tmp_path / "none" / "journal", RUN, 5)


def test_a_run_without_a_page_begins_at_the_beginning(tmp_path: Path) -> None:
    """Killed before its first page, it has nothing to finish."""
    path = tmp_path / "journal"
    with RunJournal(path, RUN, 5):
        pass
    again = RunJournal(path, RUN, 5, resume=True)
    assert again.begun() is None
    again.__exit__(None, None, None)


def test_a_run_that_has_left_something_out_can_go_on(tmp_path: Path) -> None:
    """From its beginning; its pages go on being counted, and it knows which servers it has changed."""
    path = tmp_path / "journal"
    with RunJournal(path, RUN, 5) as journal:
        journal.begin(("scan", 7), [{"id": "a"}], "node-1:run")
        assert journal.begun() == BegunPage(1, ("scan", 7), ({"id": "a"},), "node-1:run")
        journal.pause()
    with RunJournal(path, RUN, 9, resume=True) as journal:
        assert (journal.now, journal.begun()) == (5, BegunPage(2, (), ()))
        assert journal.new_page() == 3
