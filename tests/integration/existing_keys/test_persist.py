"""TTLs come off again, of everything or of what is asked for, and nothing else changes."""

from pathlib import Path

import pytest

from support.existing_keys import everything, journal_lines, now, put, tool, ttl, url
from support.servers import Server

ALL = {"mail", "sms", "done", "alive", "elsewhere"}


@pytest.mark.parametrize(
    ("options", "untimed"),
    [
        ((), ALL),
        (("--queue", "default"), ALL - {"elsewhere"}),
        (("--state", "archived"), {"mail", "sms", "elsewhere"}),
        (("--type", "mail:*"), {"mail"}),
        (("--live",), {"alive"}),
        (("--state", "completed", "--state", "pending", "--type", "x"), {"done", "alive"}),
    ],
)
def test_ttls_come_off(server: Server, options: tuple[str, ...], untimed: set[str]) -> None:
    """Those of the tasks asked for, and of no other."""
    with server.client() as client:
        start = now(client)
        put(client, "mail", "archived", start, task_type="mail:a", ttl=100)
        put(client, "sms", "archived", start, task_type="sms:a", ttl=100)
        put(client, "done", "completed", start + 50, ttl=100)
        put(client, "alive", "pending", None, ttl=100)
        put(client, "elsewhere", "archived", start, task_type="sms:a", queue="low", ttl=100)
        client.set("asynq:{default}:unique:lock", "x", ex=100)
        result = tool("persist", "--upstream", url(server), "--apply", *options)
        assert result.exit_code == 0, result.output
        queues = {name: "low" if name == "elsewhere" else "default" for name in ALL}
        assert {name for name in ALL if ttl(client, name, queues[name]) == -1} == untimed
        assert client.ttl("asynq:{default}:unique:lock") > 0


def test_the_dry_run_changes_nothing_and_tells_all(server: Server, tmp_path: Path) -> None:
    """The changes that are told are those that are made."""
    with server.client() as client:
        for number in range(150):
            put(client, f"task-{number}", "archived", now(client), ttl=100 if number % 3 else 0)
        before = everything(client)
        assert tool("persist", "--upstream", url(server), "--journal", tmp_path / "dry").exit_code == 0
        assert everything(client) == before
        result = tool("persist", "--upstream", url(server), "--journal", tmp_path / "wet", "--apply")
        assert result.exit_code == 0, result.output
        assert sorted(map(str, journal_lines(tmp_path / "dry"))) == sorted(map(str, journal_lines(tmp_path / "wet")))
        assert len(journal_lines(tmp_path / "wet")) == 100
        assert "Nothing to change" in tool("persist", "--upstream", url(server)).output
