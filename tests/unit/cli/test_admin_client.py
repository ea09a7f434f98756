"""Entries as lines, and what is said when there is nobody to ask."""

import pytest
from aiohttp.test_utils import unused_port
from rich.console import Console

from asynq_ttl.cli.admin_client import AdminClientError, ask, line_of, tail
from asynq_ttl.events import FailedOpen, FailOpen, Happened, Record
from asynq_ttl.net.address import Address
from asynq_ttl.telemetry.recent import Entry, EntryFilter, Recent
from support.recorded import ARCHIVE_SHA, END, outcome, swept


def entry(record: Record) -> Entry:
    """Return a record in words."""
    log = Recent()
    log.add(record, "")
    return log.latest(EntryFilter())[0]


def shown(told: Entry) -> str:
    """Return a line as a terminal shows it, without colours."""
    console = Console(width=1_000)
    with console.capture() as captured:
        console.print(line_of(told))
    return captured.get().strip()


LINES = {
    "22:13:20.000 archive  ttl 3,660 s queue=mail type=email:send id=id-1 rule=default microseconds=250": outcome(),
    "22:13:20.000 archive  ttl 3,660 s shadow queue=mail type=[bold]x id=a?b rule=default microseconds=250": outcome(
        enforced=False, task_type="[bold]x", task_id="a\nb"
    ),
    "22:13:20.000 archive  ttl queue=mail rule=default tasks=7 microseconds=250": outcome(
        b":7", task_id="", task_type="", ttl_seconds=None
    ),
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


def test_lines_about_the_stream_itself() -> None:
    """Watching, gone, too much."""
    assert "watching" in shown({"kind": "watching"})
    assert "gone" in shown({"kind": "lost"})
    assert "17 entries" in shown({"kind": "dropped", "entries": 17})


async def test_nobody_to_ask() -> None:
    """The fault says where was asked, and what to do."""
    nobody = Address("127.0.0.1", unused_port())
    with pytest.raises(AdminClientError, match=f"no admin server at {nobody}: .*does a sidecar run"):
        await ask(nobody, "/api/status")
    with pytest.raises(AdminClientError, match=f"no admin server at {nobody}"):
        await tail(nobody, [], lambda _: None)
    with pytest.raises(AdminClientError, match="no admin server at unix:/nowhere"):
        await ask(Address(path="/nowhere"), "/api/status")
