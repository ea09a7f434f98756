"""The decision log: whoever tells never waits, what is missing is told, and the thread outlives every error."""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asynq_ttl.events import FailOpen, Happened
from asynq_ttl.net.address import parse_upstream
from asynq_ttl.telemetry import decision_log
from asynq_ttl.telemetry.decision_log import DecisionLog, LogSettings, register_decision_log
from asynq_ttl.telemetry.log_files import LogFiles
from asynq_ttl.telemetry.recorder import Telemetry
from support.recorded import END, adopted, failed_open, outcome, swept
from support.servers import wait_until

PATIENCE = 60.0


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log but those with which a sidecar begins to write."""
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return [entry for entry in entries if entry["kind"] != "begin"]


def _larger(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size > size


@contextmanager
def running(path: Path, *, task_ids: bool = True) -> Iterator[DecisionLog]:
    """Run a log while the block runs, then see it end."""
    log = LogSettings(path).open(task_ids=task_ids)
    log.start()
    try:
        yield log
    finally:
        log.close(PATIENCE)


def test_all_that_is_told_is_written(tmp_path: Path) -> None:
    """In order, a line for each task; at the end nothing is left out."""
    with running(tmp_path / "log") as log:
        log.add(outcome(), "ab" * 16)
        log.add(swept("a", "b"), "")
        log.add(adopted("c"), "")
        log.add(failed_open(FailOpen.MESSAGE), "")
        log.add(Happened("reload", END, "ok", "policy x is in force"), "")
    written = lines(tmp_path / "log")
    assert [entry["kind"] for entry in written] == ["decision", "sweep", "sweep", "adoption", "fail_open", "reload"]
    assert written[0]["trace_id"] == "ab" * 16
    assert [entry.get("id") for entry in written] == ["id-1", "a", "b", "c", None, None]
    assert (log.lines, log.dropped, log.problem) == (6, 0, "")


def test_many_are_written(tmp_path: Path) -> None:
    """More than fit into one write."""
    with running(tmp_path / "log") as log:
        for number in range(1_000):
            log.add(outcome(task_id=str(number)), "")
    assert [entry["id"] for entry in lines(tmp_path / "log")] == [str(number) for number in range(1_000)]


def test_a_log_begins_at_once(tmp_path: Path) -> None:
    """Also before there is anything to tell, and again with each sidecar: so it is known since when it is whole."""
    path = tmp_path / "log"
    for _ in range(2):
        before = path.stat().st_size if path.exists() else 0
        with running(path, task_ids=False):
            wait_until(partial(_larger, path, before), "does not begin")
    first, second = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert first["kind"] == second["kind"] == "begin"
    assert first["task_ids"] is False


def test_hidden_ids_are_not_written(tmp_path: Path) -> None:
    """With --hide-task-ids."""
    with running(tmp_path / "log", task_ids=False) as log:
        log.add(outcome(task_id="secret"), "")
        log.add(swept("secret"), "")
        log.add(failed_open(FailOpen.MESSAGE, task_id="secret"), "")
    assert len(lines(tmp_path / "log")) == 3
    assert "secret" not in (tmp_path / "log").read_text()


def test_who_tells_never_waits_for_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Past a bound of bytes records are dropped, counted, and told when the disk answers again."""
    answers, stuck = threading.Event(), threading.Event()
    append = LogFiles.append

    def slowly(*arguments: Any, **more: Any) -> None:
        stuck.set()
        assert answers.wait(PATIENCE)
        append(*arguments, **more)

    monkeypatch.setattr(LogFiles, "append", slowly)
    monkeypatch.setattr(decision_log, "MOST_BYTES", 20_000)
    with running(tmp_path / "log") as log:
        assert stuck.wait(PATIENCE)
        for number in range(1_000):
            log.add(outcome(task_id=str(number)), "")
        assert log.dropped > 900
        before = log.dropped
        log.add(swept(*("x" * 1_000 for _ in range(30))), "")
        assert log.dropped == before + 1
        answers.set()
    written = lines(tmp_path / "log")
    assert [entry["id"] for entry in written if entry["kind"] == "decision"] == [str(n) for n in range(1_000 - before)]
    assert sum(entry["entries"] for entry in written if entry["kind"] == "dropped") == log.dropped
    assert "lacks" in caplog.text


def test_a_log_that_cannot_be_written_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again; what waited is then written in its order, and that it works is told."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(decision_log, "_AGAIN_SECONDS", 0.01)
    folder = tmp_path / "later"
    with running(folder / "log") as log:
        log.add(outcome(task_id="a"), "")
        wait_until(lambda: log.failures > 3, "not tried again")
        assert log.problem == f"the decision log {folder}/log cannot be written: No such file or directory"
        log.add(outcome(task_id="b"), "")
        folder.mkdir()
        wait_until(lambda: not log.problem, "not written again")
    assert [entry["id"] for entry in lines(folder / "log")] == ["a", "b"]
    assert caplog.text.count("cannot be written") == 1
    assert "is written again" in caplog.text


def test_while_it_cannot_be_written_the_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too much is dropped, and the log says how much when it can be written."""
    monkeypatch.setattr(decision_log, "_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(decision_log, "MOST_BYTES", 20_000)
    folder = tmp_path / "later"
    with running(folder / "log") as log:
        wait_until(lambda: log.failures > 0, "does not fail")
        for number in range(1_000):
            log.add(outcome(task_id=str(number)), "")
        failures = log.failures
        wait_until(lambda: log.failures > failures + 5, "not tried again")
        assert len(log._ready) < 2 * decision_log._PIECE
        folder.mkdir()
        wait_until(lambda: not log.problem, "not written again")
    written = lines(folder / "log")
    assert written[-1]["kind"] == "dropped"
    assert len(written) - 1 + written[-1]["entries"] == 1_000


def test_ending_takes_no_longer_than_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that does not answer keeps no sidecar from ending, and one that refuses none either."""
    answers = threading.Event()
    monkeypatch.setattr(LogFiles, "append", lambda *_, **__: answers.wait(PATIENCE))
    log = LogSettings(tmp_path / "log").open(task_ids=True)
    log.start()
    log.close(0.05)
    answers.set()
    log.close(PATIENCE)
    assert not log._thread.is_alive()
    monkeypatch.undo()
    with running(tmp_path / "missing" / "log") as refused:
        refused.add(outcome(), "")
    assert not refused._thread.is_alive()


def test_a_log_that_was_not_started_ends() -> None:
    """As where a sidecar cannot start."""
    LogSettings(Path("log")).open(task_ids=True).close(0)


def test_a_bug_costs_one_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be put into words is lost and counted; the rest is written."""
    with running(tmp_path / "log") as log:
        log.add(outcome(ttl_seconds={1, 2}), "")
        log.add(outcome(task_id="fine"), "")
    assert [entry["id"] for entry in lines(tmp_path / "log") if entry["kind"] == "decision"] == ["fine"]
    assert log.dropped == 1
    assert "cannot tell of something" in caplog.text


def test_what_is_written_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Soon, and at the end; where the disk refuses, that is a failure as well."""
    monkeypatch.setattr(decision_log, "SYNC_SECONDS", 0.01)
    with running(tmp_path / "log") as log:
        log.add(outcome(), "")
        wait_until(lambda: log.lines == 1 and not log._files.unsynced, "is not synced")
        monkeypatch.setattr(LogFiles, "sync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        log.add(outcome(), "")
        wait_until(lambda: log.failures > 0, "the failure is not counted")
    assert "Input/output error" in caplog.text


@pytest.mark.parametrize("named", [True, False])
def test_its_metrics(tmp_path: Path, *, named: bool) -> None:
    """They are there without a log too."""
    metrics = Telemetry(parse_upstream("redis://127.0.0.1:6379/0"), {}, pulled=True).metrics
    log = LogSettings(tmp_path / "log").open(task_ids=True) if named else None
    register_decision_log(metrics, log)
    text = metrics.text("")[0].decode()
    for name in ("lines_total", "dropped_total", "failures_total", "failing"):
        assert f"asynq_ttl_decision_log_{name} 0.0" in text
