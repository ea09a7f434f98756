"""A task is found by its ID: in the journal, in the decision log and in Redis, with bounded work."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from asynq_ttl.existing_keys.why.look import Look
from asynq_ttl.net.address import Upstream, parse_address
from asynq_ttl.policy.rules import DEFAULT_POLICY
from asynq_ttl.policy_file.load import parse_policy
from asynq_ttl.sidecar.admin import task_search
from asynq_ttl.sidecar.admin.task_search import TaskSearch
from asynq_ttl.sidecar.settings import Settings
from asynq_ttl.sidecar.sidecar import Sidecar
from asynq_ttl.telemetry.decision_log import LogSettings
from asynq_ttl.telemetry.recorder import Telemetry
from support.in_process import make_sidecar
from support.recorded import UPSTREAM, outcome, swept
from support.scripted_database import NOW, task_of
from support.servers import wait_until
from support.whereabouts import where


def logging(folder: Path, *, task_ids: bool = True) -> Sidecar:
    """Return a sidecar that does not run, but for its decision log."""
    sidecar = make_sidecar(decisions=LogSettings(folder / "log"), telemetry=Telemetry(UPSTREAM, {}, task_ids=task_ids))
    assert sidecar.decision_log is not None
    sidecar.decision_log.start()
    return sidecar


async def test_the_journal_and_the_log_are_asked(tmp_path: Path) -> None:
    """Of what is in both one is told; of a page of a sweep the log knows all tasks."""
    sidecar = logging(tmp_path)
    assert sidecar.decision_log is not None
    sidecar.telemetry.decided(outcome(task_id="task-99"))
    sidecar.telemetry.swept(swept(*(f"task-{number}" for number in range(100))))
    wait_until(lambda: sidecar.decision_log is not None and sidecar.decision_log.lines == 101, "the log is not written")
    code, told = await TaskSearch(sidecar).answer("id=task-99&redis=no")
    assert code == 200
    assert [event["kind"] for event in told["events"]] == ["decision", "sweep"]
    assert "The sweeper of a sidecar removed it at" in told["end"][0]
    code, told = await TaskSearch(sidecar).answer("id=task-99&redis=no&queue=another")
    assert (code, told["known"]) == (200, False)
    sidecar.decision_log.close(60)


async def test_without_a_log_the_journal_is_asked() -> None:
    """That there is no log is said."""
    sidecar = make_sidecar()
    sidecar.telemetry.decided(outcome(task_id="a"))
    _, told = await TaskSearch(sidecar).answer("id=a&redis=no")
    assert [event["kind"] for event in told["events"]] == ["decision"]
    assert "The sidecar writes no decision log (--decisions)." in told["notes"]


async def test_hidden_ids_stay_hidden(tmp_path: Path) -> None:
    """Nothing is known of any task, and why is said."""
    sidecar = logging(tmp_path, task_ids=False)
    assert sidecar.decision_log is not None
    sidecar.telemetry.decided(outcome(task_id="a"))
    sidecar.telemetry.tell()
    wait_until(lambda: sidecar.decision_log is not None and sidecar.decision_log.lines == 1, "the log is not written")
    _, told = await TaskSearch(sidecar).answer("id=a&redis=no")
    assert not told["known"]
    assert sum("--hide-task-ids" in note for note in told["notes"]) == 2
    sidecar.decision_log.close(60)


async def test_a_log_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """The journal is asked all the same."""
    sidecar = make_sidecar(decisions=LogSettings(tmp_path / "missing" / "log"))
    sidecar.telemetry.decided(outcome(task_id="a"))
    _, told = await TaskSearch(sidecar).answer("id=a&redis=no")
    assert (told["known"], told["whole"]) == (True, False)
    assert "cannot be read: No such file" in " ".join(told["notes"])


async def test_every_database_of_the_clients_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the policy in force; the text of an error stays in Redis."""
    task = task_of("archived", score=NOW)
    assert task.record is not None
    asked = []

    def look(upstream: Upstream, queue: str, task_id: bytes) -> Look:
        asked.append((upstream.database, queue, task_id))
        return Look((where(task, database=upstream.database),), NOW, ("asked.",), whole=True)

    monkeypatch.setattr(task_search, "look", look)
    policy = parse_policy("version: 1\nrules: [{name: mine, archived: {ttl: 1h}}]", "policy.yaml")
    sidecar = make_sidecar(policy=policy)
    sidecar.shared.databases.add(3)
    _, told = await TaskSearch(sidecar).answer("id=a%FF&queue=q")
    assert asked == [(0, "q", b"a\xff"), (3, "q", b"a\xff")]
    assert [found["database"] for found in told["tasks"]] == [0, 3]
    assert told["tasks"][0]["rules_now"] == {"archived": {"rule": "mine", "ttl": "1h"}}
    assert "error" not in json.dumps(told["tasks"])


async def test_a_password_of_a_file_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Read anew for each search; without it Redis is not asked."""
    passwords = []

    def look(upstream: Upstream, _queue: str, _task_id: bytes) -> Look:
        passwords.append(upstream.password)
        return Look((), NOW, (), whole=True)

    monkeypatch.setattr(task_search, "look", look)
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    upstream = replace(UPSTREAM, password_file=str(secret))
    sidecar = Sidecar(Settings(parse_address("127.0.0.1:0"), upstream), DEFAULT_POLICY, Telemetry(upstream, {}))
    await TaskSearch(sidecar).answer("id=a")
    assert passwords == ["hush"]
    secret.unlink()
    _, told = await TaskSearch(sidecar).answer("id=a")
    assert not told["whole"]
    assert "the password file" in told["notes"][0]


@pytest.mark.parametrize("query", ["", "id=", "queue=q", "&".join(["id=a"] * 11)])
async def test_a_question_that_names_no_task(query: str) -> None:
    """Is refused, with what is missing."""
    code, told = await TaskSearch(make_sidecar()).answer(query)
    assert code == 400
    assert told["error"]


async def test_not_too_many_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes too many is told so; afterwards others may."""
    go_on = Event()

    def look(*_: object) -> Look:
        assert go_on.wait(60)
        return Look((), NOW, (), whole=True)

    monkeypatch.setattr(task_search, "look", look)
    search = TaskSearch(make_sidecar())
    busy = [asyncio.create_task(search.answer("id=a")) for _ in range(2)]
    await asyncio.sleep(0)
    assert (await search.answer("id=a"))[0] == 503
    go_on.set()
    assert [code for code, _ in await asyncio.gather(*busy)] == [200, 200]
    assert (await search.answer("id=a"))[0] == 200
