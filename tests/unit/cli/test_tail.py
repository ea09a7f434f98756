"""Entries as lines, and which entries are asked for."""

import json
from collections.abc import Callable, Sequence

import pytest
from click.testing import CliRunner

from asynq_ttl.cli import tail as tailing
from asynq_ttl.cli.main import main
from asynq_ttl.cli.printing import console
from asynq_ttl.cli.tail import line_of
from asynq_ttl.events import FailedOpen, FailOpen, Happened, Record
from asynq_ttl.net.address import Address
from asynq_ttl.telemetry.entries import Entry
from asynq_ttl.telemetry.recent import EntryFilter, Recent
from support.recorded import ARCHIVE_SHA, END, outcome, swept


def entry(record: Record) -> Entry:
    """Return a record in words."""
    log = Recent()
    log.add(record, "")
    return log.latest(EntryFilter())[0]


def shown(told: Entry) -> str:
    """Return a line as a terminal shows it, without colours."""
    terminal = console(highlight=False, soft_wrap=True)
    with terminal.capture() as captured:
        terminal.print(line_of(told))
    return captured.get().strip()


LINES = {
    "22:13:20.000 archive  ttl 3,660 s queue=mail type=email:send id=id-1 rule=default microseconds=250": outcome(),
    "22:13:20.000 archive  ttl 3,660 s shadow queue=mail type=[bold]x id=a?b rule=default microseconds=250": outcome(
        enforced=False, task_type="[bold]x", task_id="a\nb"
    ),
    "22:13:20.000 archive  ttl queue=mail rule=default tasks=7 microseconds=250": outcome(
        b":7", task_id="", task_type="", ttl_seconds=None
    ),
    "22:13:20.000 archive  ttl queue=mail rule=default tasks=1207 (1,200 ttl, 7 gone) microseconds=250": outcome(
        b":1207", task_id="", task_type="", ttl_seconds=None
    )._replace(actions=(("ttl", 1_200), ("gone", 7))),
    "22:13:20.000 archive  ttl queue=mail rule=default NOT FOUND microseconds=250": outcome(
        b"-NOT FOUND", task_id="", task_type="", ttl_seconds=None
    ),
    "22:13:20.000 sweep    delete queue=mail tasks=2 ghosts=3 ids=a,b": swept("a", "b", ghosts=3),
    "22:13:20.000 fail_open reason=message queue=mail id=id-1 truncated": FailedOpen(
        FailOpen.MESSAGE, "truncated", END, "archive", ARCHIVE_SHA, "mail", "id-1"
    ),
    "22:13:20.000 reload result=error line 3": Happened("reload", END, "error", "line 3"),
}


@pytest.mark.parametrize(("line", "record"), LINES.items(), ids=range(len(LINES)))
def test_a_line(line: str, record: Record) -> None:
    """What it was, what happens to the key, and about what; nothing in it is markup or another line."""
    assert shown(entry(record)) == line


@pytest.mark.parametrize("text", ["[b]", "[/b]", r"a\[/b]x", "user:key:rotate", "c]", r"\\[red]", "[1]"])
def test_what_a_client_chose_is_shown_as_it_is(text: str) -> None:
    """Whatever rich would read in it."""
    line = shown(entry(outcome(task_id=text, task_type=text, queue=text)))
    assert f"queue={text} type={text} id={text} " in line


def test_lines_about_the_stream_itself() -> None:
    """Watching, gone, too much."""
    assert "watching" in shown({"kind": "watching"})
    assert "gone" in shown({"kind": "lost"})
    assert "17 entries" in shown({"kind": "dropped", "entries": 17})


def test_what_is_asked_for_and_where_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value of an option is a field of the query; entries go to standard output, what else happens does not."""
    asked: list[tuple[str, str]] = []

    def watch(
        admin: Address, wanted: Sequence[tuple[str, str]], show: Callable[[Entry], None], *, limit: int = 0
    ) -> None:
        asked.extend(wanted)
        assert (admin.port, limit) == (1, 3)
        show({"kind": "watching"})
        show(entry(outcome()))

    monkeypatch.setattr(tailing, "watch", watch)
    options = ["--queue", "a*", "--queue", "b", "--type", "t", "--action", "ttl", "--count", "3", "--json"]
    result = CliRunner().invoke(main, ["tail", "--admin", "127.0.0.1:1", *options])
    assert result.exit_code == 0
    assert asked == [("queue", "a*"), ("queue", "b"), ("type", "t"), ("action", "ttl")]
    assert json.loads(result.stdout)["id"] == "id-1"
    assert "watching" in result.stderr


@pytest.mark.parametrize("state", ["archived", "completed", "pending", "deleted", "ended"])
def test_every_state_that_an_entry_has_can_be_asked_for(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that of tasks that somebody deletes, and of those that end by effect."""
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(tailing, "watch", lambda _admin, wanted, *_rest, **_options: asked.extend(wanted))
    assert CliRunner().invoke(main, ["tail", "--state", state]).exit_code == 0
    assert asked == [("state", state)]


def test_a_reader_that_goes_away_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `asynq-ttl tail | head`."""

    def watch(*_arguments: object, **_options: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(tailing, "watch", watch)
    assert CliRunner().invoke(main, ["tail"]).exit_code == 141


def test_a_sidecar_that_is_not_there_is_told() -> None:
    """In one line, without a traceback."""
    result = CliRunner().invoke(main, ["tail", "--admin", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert "127.0.0.1:1" in result.output
