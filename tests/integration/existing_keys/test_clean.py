"""Ended tasks that match a filter are deleted, whole, and what was asked to be written down is on the disk before."""

import base64
import json
import re
import resource
import subprocess
from pathlib import Path

import pytest
from redis import Redis

from support.asynq import Harness, Json
from support.commands import command_line
from support.existing_keys import (
    DAY,
    QUEUE,
    everything,
    journal_lines,
    members,
    now,
    put,
    run_and_kill,
    tasks,
    tool,
    url,
    whole_lines,
)
from support.servers import Server, SidecarFactory


def some(client: "Redis") -> None:
    """Put a few tasks of many kinds into two queues."""
    start = now(client)
    put(client, "old", "archived", start - 9 * DAY, task_type="mail:a", error_msg="smtp: refused", lock=True)
    put(client, "young", "archived", start - DAY, task_type="mail:a", error_msg="smtp: timeout")
    put(client, "other", "archived", start - 9 * DAY, task_type="sms:a", error_msg="no credit", ttl=500)
    put(client, "done", "completed", start + 50, task_type="mail:a", completed_at=start - 9 * DAY)
    put(client, "alive", "pending", None, task_type="mail:a")
    put(client, "low", "archived", start - 9 * DAY, task_type="mail:a", queue="low")
    client.hset(QUEUE + "t:json", mapping={"msg": b'{"a": 1}', "state": "archived"})
    client.zadd(QUEUE + "archived", {"json": start - 9 * DAY, "ghost": 5, "alive": 5})


ENDED = {"old", "young", "other", "json"}


@pytest.mark.parametrize(
    ("options", "gone", "status"),
    [
        ((), ENDED | {"low"}, 0),
        (("--queue", "def*"), ENDED, 0),
        (("--type", "mail:*"), {"old", "young", "low"}, 1),
        (("--error", "smtp:*"), {"old", "young"}, 1),
        (("--error", "*refused", "--error", "no *"), {"old", "other"}, 1),
        (("--older-than", "7d"), ENDED - {"young"} | {"low"}, 0),
        (("--older-than", "7d", "--type", "sms:?", "--queue", "default"), {"other"}, 1),
        (("--state", "completed", "--older-than", "7d"), ENDED - {"young"} | {"low", "done"}, 0),
    ],
)
def test_what_matches_is_deleted_whole(server: Server, options: tuple[str, ...], gone: set[str], status: int) -> None:
    """With entry and lock, and nothing else is; where a message cannot be read, no glob of it matches."""
    with server.client() as client:
        some(client)
        ids = tasks(client) | tasks(client, "low")
        before = everything(client)
        line = ("clean", "--upstream", url(server), "--state", "archived", *options)
        dry = tool(*line)
        assert dry.exit_code == status, dry.output
        assert everything(client) == before
        assert set(re.findall(r"^would remove  \S+  \w+  (\S+)", dry.output, re.MULTILINE)) == gone
        result = tool(*line, "--apply")
        assert result.exit_code == status, result.output
        assert ("cannot be read" in result.stderr) == bool(status)
        assert tasks(client) | tasks(client, "low") == ids - gone
        assert members(client, "archived") == (ENDED - gone) | {"ghost", "alive"}
        assert client.exists(QUEUE + "unique:old") == ("old" not in gone)
        assert re.search("Nothing to change|matches no task here", tool(*line).output)


def test_a_held_task_stays(server: Server) -> None:
    """And it is told that there are some."""
    with server.client() as client:
        some(client)
        assert tool("hold", "default", "old", "json", "--upstream", url(server)).exit_code == 0
        result = tool("clean", "--upstream", url(server), "--state", "archived", "--older-than", "7d", "--apply")
        assert result.exit_code == 0, result.output
        assert "2 that match are held, and stay" in result.output
        assert tasks(client) == {"old", "json", "young", "done", "alive"}


def test_a_state_must_be_named(server: Server) -> None:
    """One of the two in which tasks have ended."""
    assert tool("clean", "--upstream", url(server)).exit_code == 2
    assert tool("clean", "--upstream", url(server), "--state", "pending").exit_code == 2


def test_what_is_deleted_was_written_down(server: Server, tmp_path: Path) -> None:
    """In the form of `export`; a message that cannot be read as it is, and large ones whole."""
    with server.client() as client:
        some(client)
        put(client, "large", "archived", now(client) - 9 * DAY, payload=b"x" * 200_000)
        line = ("clean", "--upstream", url(server), "--state", "archived", "--export", tmp_path / "gone")
        dry = tool(*line)
        assert "is written with --apply" in dry.stderr
        assert not (tmp_path / "gone").exists()
        result = tool(*line, "--apply", "--journal", tmp_path / "journal")
        assert result.exit_code == 0, result.output
        lines = {line["id"]: line for line in map(json.loads, (tmp_path / "gone").read_text().splitlines())}
        assert lines.keys() == ENDED | {"low", "large"}
        assert (lines["old"]["type"], lines["old"]["error"]) == ("mail:a", "smtp: refused")
        assert base64.b64decode(lines["json"]["message_base64"]) == b'{"a": 1}'
        assert len(base64.b64decode(lines["large"]["payload_base64"])) == 200_000
        assert {change["id"] for change in journal_lines(tmp_path / "journal")} == lines.keys()
        again = tool(*line, "--apply", "--journal", tmp_path / "other")
        assert (again.exit_code, again.output) == (1, f"{tmp_path}/gone is there already: name another file\n")
        assert not (tmp_path / "other").exists()


def test_what_cannot_be_written_down_is_not_deleted(server: Server, tmp_path: Path) -> None:
    """Where the disk takes no more, the run ends with one line; what is gone until then is in the file."""
    with server.client() as client:
        start, names = now(client), {f"task-{number}" for number in range(300)}
        with client.pipeline() as pipeline:
            for name in names:
                put(pipeline, name, "archived", start - 1000)
            pipeline.execute()
        line = ["clean", "--upstream", url(server), "--state", "archived", "--apply", "--show", "0", "--export"]
        nowhere = tool(*line, tmp_path / "none" / "gone")
        assert (nowhere.exit_code, len(nowhere.output.splitlines())) == (1, 1)
        assert tasks(client) == names
        file = tmp_path / "gone"
        ended = subprocess.run(
            command_line(*line, str(file)),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (1, f"{file}: File too large\n")
        gone = names - tasks(client)
        assert 0 < len(gone) < len(names)
        assert gone <= {json.loads(each)["id"] for each in whole_lines(file)}


def test_a_run_that_is_killed_goes_on(server: Server, tmp_path: Path) -> None:
    """After SIGKILLs nothing is left, and each task that is gone is in the file, and once in the journal."""
    with server.client() as client:
        start = now(client)
        names = {f"task-{number}" for number in range(1200)}
        with client.pipeline() as pipeline:
            for name in names:
                put(pipeline, name, "archived", start - 1000)
            put(pipeline, "kept", "archived", start - 1000, task_type="other")
            pipeline.execute()
        journal, file = tmp_path / "journal", tmp_path / "gone"
        line = ["clean", "--upstream", url(server), "--state", "archived", "--type", "x", "--rate", "2000", "--apply"]
        line += ["--journal", str(journal), "--export", str(file)]
        kills = 0
        while run_and_kill([*line, *(["--resume"] if kills else [])], journal, 60_000):
            kills += 1
            written = {json.loads(each)["id"] for each in whole_lines(file)}
            assert names - tasks(client) <= written
        assert kills >= 2
        assert tasks(client) == {"kept"}
        assert {json.loads(each)["id"] for each in whole_lines(file)} == names
        assert sorted(change["id"] for change in journal_lines(journal)) == sorted(names)


def test_asynq_goes_on_with_what_is_left(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """An ID that was cleaned away is free again, and so is its uniqueness lock."""
    sidecar = start_sidecar(url(server), "version: 1\nrules: [{name: all, archived: {ttl: 1h}}]")
    dead: Json = {"id": "dead", "type": "x", "payload": '{"do": "skip"}', "unique": "1h"}
    harness.enqueue(sidecar.address, dead, {"id": "other", "type": "y", "payload": '{"do": "skip"}'})
    harness.work(sidecar.address)
    line = ("clean", "--upstream", url(server), "--state", "archived", "--error", "*", "--type", "x")
    result = tool(*line, "--export", tmp_path / "gone", "--apply")
    assert result.exit_code == 0, result.output
    (answer,) = harness.enqueue(sidecar.address, dead)
    assert answer["state"] == "pending"
    info = harness.inspect(sidecar.address, {"op": "queue_info", "queue": "default"})[0]
    assert (info["archived"], info["pending"]) == (1, 1)
