"""Which policy decides: after a reload, after a fault, while rewriting is paused."""

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from asynq_ttl.net.address import parse_address
from asynq_ttl.policy.rules import DEFAULT_POLICY, Mode, Policy
from asynq_ttl.policy_file.load import load_policy, parse_policy
from asynq_ttl.rewriting.rewriter import Rewriter
from asynq_ttl.sidecar.policy_in_force import PolicyInForce
from asynq_ttl.sidecar.settings import Settings
from asynq_ttl.telemetry.recorder import Telemetry
from support.recorded import UPSTREAM

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: %s}}]\n"
SETTINGS = Settings(parse_address("127.0.0.1:0"), UPSTREAM)


class Party:
    """A policy in force, and those who hear of it."""

    def __init__(self, file: Path | None, policy: Policy) -> None:
        self.telemetry = Telemetry(UPSTREAM, {})
        self.used: list[Rewriter] = []
        settings = replace(SETTINGS, policy_file=file)
        self.in_force = PolicyInForce(policy, settings, self.telemetry, self.used.append)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A policy file."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY % "1h")
    return path


@pytest.fixture
def party(file: Path) -> Iterator[Party]:
    """What is in force of it."""
    made = Party(file, load_policy(file))
    yield made
    made.telemetry.shutdown()


def test_a_changed_file_is_in_force(party: Party, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A new rewriter is given out, the log and the count say so, and there are no faults."""
    caplog.set_level(logging.INFO)
    file.write_text(POLICY % "2h")
    reload = party.in_force.reload()
    assert reload.faults == ()
    assert party.in_force.last_reload is reload
    assert party.in_force.policy.text == POLICY % "2h"
    assert [rewriter.policy for rewriter in party.used] == [party.in_force.policy]
    assert party.in_force.rewriter is party.used[0]
    assert party.telemetry.reloads == {"ok": 1}
    assert f"policy {file} ({party.in_force.policy.digest}) is in force, mode enforce" in caplog.text


def test_a_fault_changes_nothing(party: Party, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The policy in force stays, every fault is in the log, and nobody is given anything."""
    before = party.in_force.policy
    file.write_text("version: 1\nmode: loud\nrules: 5\n")
    reload = party.in_force.reload()
    assert len(reload.faults) == 2
    assert party.in_force.last_reload is reload
    assert party.in_force.policy is before
    assert party.used == []
    assert party.telemetry.reloads == {"error": 1}
    assert caplog.text.count("policy not reloaded, the old one stays in force: ") == 2
    file.write_text(POLICY % "3h")
    assert party.in_force.reload().faults == ()


def test_a_file_that_has_gone_is_a_fault(party: Party, file: Path) -> None:
    """As much as one that cannot be understood."""
    file.unlink()
    assert "No such file" in party.in_force.reload().faults[0]


def test_without_a_file_there_is_nothing_to_reload(caplog: pytest.LogCaptureFixture) -> None:
    """It is said, and is no refused reload: the built-in default is in force as before."""
    party = Party(None, DEFAULT_POLICY)
    before = party.in_force.last_reload
    assert party.in_force.reload().faults == ("there is no policy file to reload",)
    assert party.in_force.last_reload is before
    assert not party.telemetry.reloads
    assert "the built-in default is in force" in caplog.text


def test_a_pause_is_shadow_mode(party: Party) -> None:
    """The policy that was read stays what it is; asked for twice, nothing happens."""
    party.in_force.pause(paused=True)
    party.in_force.pause(paused=True)
    assert party.in_force.paused
    assert (party.in_force.mode, party.in_force.policy.mode) == (Mode.SHADOW, Mode.ENFORCE)
    party.in_force.pause(paused=False)
    assert party.in_force.mode is Mode.ENFORCE
    assert [rewriter.policy.mode for rewriter in party.used] == [Mode.SHADOW, Mode.ENFORCE]


def test_a_pause_outlasts_a_reload(party: Party, file: Path) -> None:
    """Whoever paused in an emergency is not overruled by a file."""
    party.in_force.pause(paused=True)
    file.write_text(POLICY % "2h")
    party.in_force.reload()
    assert party.in_force.mode is Mode.SHADOW
    party.in_force.pause(paused=False)
    assert (party.in_force.mode, party.in_force.policy.text) == (Mode.ENFORCE, POLICY % "2h")


def test_any_policy_can_be_put_in_force(party: Party) -> None:
    """Without a file."""
    policy = parse_policy(POLICY % "5h", "test")
    party.in_force.replace(policy)
    assert party.in_force.policy is policy
    assert party.used[-1].policy is policy


def test_a_pipe_is_not_read_again(party: Party, file: Path) -> None:
    """Nobody writes to it any more: that would hold up the sidecar for ever."""
    policy = party.in_force.policy
    file.unlink()
    os.mkfifo(file)
    assert "is a pipe or the like" in party.in_force.reload().faults[0]
    assert party.in_force.policy is policy
    file.unlink()
    assert "cannot be read" in party.in_force.reload().faults[0]
