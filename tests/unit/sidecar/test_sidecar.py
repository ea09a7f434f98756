"""How the parts of a sidecar begin, hear of each other, and end."""

import asyncio
import logging
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from asynq_ttl.net.address import parse_address, parse_upstream
from asynq_ttl.policy.rules import DEFAULT_POLICY, Mode
from asynq_ttl.policy_file.load import parse_policy
from asynq_ttl.relay.client_login import Gate
from asynq_ttl.sidecar.settings import Access, ClientAuth, Settings
from asynq_ttl.sidecar.sidecar import Sidecar
from asynq_ttl.telemetry.recorder import Telemetry
from support.recorded import activated, sidecar
from support.servers import free_port

POLICY = parse_policy("version: 1\nrules: [{name: all, archived: {ttl: 1h}}]", "policy.yaml")


def alone(**changes: object) -> Sidecar:
    """Return a sidecar whose Redis is not there."""
    upstream = parse_upstream(f"redis://me:secret@127.0.0.1:{free_port()}/3")
    settings = replace(Settings(parse_address("127.0.0.1:0"), upstream, drain_seconds=0.1, sweep_seconds=0), **changes)  # type: ignore[arg-type] # what a test gives
    return Sidecar(settings, DEFAULT_POLICY, Telemetry(upstream, {}))


async def test_it_listens_while_it_runs_and_is_ready_once_redis_answers() -> None:
    """Starting, then whatever is wrong with Redis, then draining, then stopped."""
    made = alone()
    assert made.problem == "starting"
    async with made.running() as address:
        assert made.listening == address
        assert address.port > 0
        assert made.problem.startswith(f"upstream {made.settings.upstream}: ")
        assert "secret" not in made.problem
        made.control.problem = ""
        assert made.problem == ""
        made.end()
        assert made.problem == "draining"
    assert made.problem == "stopped"
    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection(address.host, address.port)


async def test_it_leaves_no_task_behind() -> None:
    """What it began for itself it ends."""
    before = asyncio.all_tasks()
    async with alone(sweep_seconds=0.1).running():
        assert len(asyncio.all_tasks() - before) >= 3
    assert asyncio.all_tasks() == before


async def test_asked_twice_to_end_it_does_not_wait(caplog: pytest.LogCaptureFixture) -> None:
    """For commands under way."""
    caplog.set_level(logging.INFO)
    made = alone()
    made.end()
    assert made.stop.is_set()
    assert caplog.messages == []
    made.end()
    assert caplog.messages == ["asked again to end: not waiting for commands under way"]


def test_sessions_and_the_sweeper_decide_by_the_policy_in_force() -> None:
    """A policy that is put in force, or a pause, reaches both at once."""
    made = sidecar()
    assert made.shared.rewriter is made.in_force.rewriter
    made.in_force.replace(POLICY)
    assert made.shared.rewriter is made.in_force.rewriter
    assert made.shared.rewriter.policy is POLICY
    made.in_force.pause(paused=True)
    assert made.shared.rewriter.policy.mode is Mode.SHADOW
    assert made.sweeper._reach() is made.shared.rewriter.reach


def test_who_is_asked_for_a_password(tmp_path: Path) -> None:
    """With a password file, every client before anything else; what it shows later goes through the same guard."""
    open_to_all = alone()
    assert open_to_all.shared.login is None
    assert not isinstance(open_to_all._accept(), Gate)
    file = tmp_path / "passwords"
    file.write_text("sesame\n")
    guarded = alone(access=Access(auth=ClientAuth.PASSWORD, password_file=file))
    assert isinstance(guarded._accept(), Gate)
    assert guarded.shared.login is not None
    assert guarded.shared.login([b"AUTH", b"sesame"]) == [b"AUTH", b"me", b"secret"]
    assert guarded.shared.login([b"AUTH", b"wrong"]) is None


def test_the_databases_that_are_swept_are_known_from_the_start() -> None:
    """The first one, and the one that the URL names."""
    assert alone().shared.databases == {0, 3}


def test_a_wrapper_that_is_loaded_is_told() -> None:
    """To telemetry."""
    made = sidecar()
    script = made.registry.learn(b"return 1")
    made._activated(activated(script))
    assert made.telemetry.activations == {"ok": 1}


async def test_sighup_reads_policy_and_certificates_again(tmp_path: Path) -> None:
    """Without a policy file and with certificates only these."""
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nrules: [{name: all, archived: {ttl: 2h}}]")
    made = alone(policy_file=file)
    made.reload_all()
    assert made.in_force.policy.source == str(file)
    without = alone()
    without.reload_all()
    assert without.in_force.policy is DEFAULT_POLICY


async def test_an_address_that_is_taken_is_an_error() -> None:
    """Of the operating system's; the process ends with it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        made = alone(listen=parse_address(f"127.0.0.1:{taken.getsockname()[1]}"))
        with pytest.raises(OSError, match="in use"):
            async with made.running():
                pytest.fail("it listens twice")
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
