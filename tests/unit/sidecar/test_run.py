"""A sidecar as a process: what the process is allowed, which signals it heeds, and whom it tells."""

import asyncio
import gc
import logging
import os
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from asynq_ttl.net.address import parse_address, parse_upstream
from asynq_ttl.policy_file.faults import PolicyError
from asynq_ttl.sidecar import run
from asynq_ttl.sidecar.settings import Settings
from asynq_ttl.sidecar.sidecar import Sidecar, StartError, endpoint_of
from asynq_ttl.sidecar.signals import Signals
from asynq_ttl.telemetry.recorder import Telemetry
from support.servers import free_port
from support.waiting import LONG_SECONDS, until

ENDLESS = resource.RLIM_INFINITY


@pytest.fixture(autouse=True)
def process() -> Iterator[None]:
    """Leave the collector and the limits of this process as they were."""
    limits, thresholds = resource.getrlimit(resource.RLIMIT_NOFILE), gc.get_threshold()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def settings(policy_file: Path | None = None) -> Settings:
    """Return settings for a sidecar whose Redis is not there."""
    upstream = parse_upstream(f"redis://127.0.0.1:{free_port()}/0")
    return Settings(parse_address("127.0.0.1:0"), upstream, policy_file, 10, drain_seconds=0.1, sweep_seconds=0)


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[Signals]:
    """Signals that this process heeds meanwhile, without forcing its end."""
    monkeypatch.setattr(Signals, "_end_within", lambda *_: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    heeded = Signals()
    heeded.heed()
    yield heeded
    for number, handler in before.items():
        signal.signal(number, handler)


def serving(signals: Signals, chosen: Settings, log: list[str]) -> "asyncio.Task[None]":
    """Serve, and write down what runs beside it."""

    @asynccontextmanager
    async def beside(sidecar: Sidecar) -> AsyncIterator[None]:
        log.append(f"beside {sidecar.listening}")
        yield
        log.append(f"after {sidecar.listening}")

    return asyncio.create_task(run.serve(chosen, Telemetry(chosen.upstream, {}), endpoint_of(chosen), beside, signals))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it(number: signal.Signals, signals: Signals, caplog: pytest.LogCaptureFixture) -> None:
    """It drains and stops; what runs beside it does so from before it listens until after it has drained."""
    caplog.set_level(logging.INFO)
    log: list[str] = []
    served = serving(signals, settings(), log)
    await until(lambda: "listening at" in caplog.text)
    assert log == ["beside None"]
    os.kill(os.getpid(), number)
    await asyncio.wait_for(served, LONG_SECONDS)
    assert log == ["beside None", "after None"]
    assert [line for line in caplog.messages if line in ("draining", "stopped")] == ["draining", "stopped"]


async def test_sighup_reloads_the_policy(signals: Signals, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It goes on serving."""
    caplog.set_level(logging.INFO)
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nrules: [{name: all, archived: {ttl: 1h}}]")
    served = serving(signals, settings(file), [])
    await until(lambda: "listening at" in caplog.text)
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: "is in force, mode enforce" in caplog.text)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(served, LONG_SECONDS)


async def test_a_supervisor_is_told(
    signals: Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once clients can come, and once no more are taken."""
    told: list[str] = []
    monkeypatch.setattr(run, "tell", lambda notice: told.append(notice.name))
    caplog.set_level(logging.INFO)
    served = serving(signals, settings(), [])
    await until(lambda: "listening at" in caplog.text)
    assert told == ["READY"]
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(served, LONG_SECONDS)
    assert told == ["READY", "STOPPING"]


async def test_a_policy_that_is_not_valid_is_told_before_anything_begins(signals: Signals, tmp_path: Path) -> None:
    """Nothing runs beside what does not run."""
    file = tmp_path / "policy.yaml"
    file.write_text("rules: 5")
    log: list[str] = []
    with pytest.raises(PolicyError):
        await serving(signals, settings(file), log)
    assert log == []


@pytest.mark.parametrize(
    ("before", "wanted", "allowed", "after"),
    [
        ((1_000, 4_000), 100, 100, (1_000, 4_000)),
        ((1_000, 4_000), 1_000, 1_000, (2_064, 4_000)),
        ((1_000, 2_000), 1_000, 968, (2_000, 2_000)),
        ((1_000, ENDLESS), 5_000, 5_000, (10_064, ENDLESS)),
        ((ENDLESS, ENDLESS), 5_000, 5_000, (ENDLESS, ENDLESS)),
        ((66, 66), 5_000, 1, (66, 66)),
    ],
)
def test_open_files_for_two_connections_a_client(
    before: tuple[int, int], wanted: int, allowed: int, after: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The soft limit is raised as far as it is needed and may be; fewer clients are let in where that is too few."""
    limits = [before]
    monkeypatch.setattr(resource, "getrlimit", lambda _which: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _which, pair: limits.append(pair))
    chosen = replace(settings(), max_connections=wanted)
    assert (run.with_room(chosen), limits[-1]) == (replace(chosen, max_connections=allowed), after)
    monkeypatch.undo()


def test_without_room_for_its_own_files_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what the limit is."""
    chosen = settings()
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (10, 10))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, _pair: None)
    with pytest.raises(StartError, match="limit of open files is 10, and a sidecar needs 66"):
        run.with_room(chosen)
    monkeypatch.undo()


def test_the_collector_is_spared() -> None:
    """What is there is frozen, and it looks at new objects less often."""
    gc.unfreeze()
    run._spare_collector()
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[0] == 10_000
