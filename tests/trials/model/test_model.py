"""Whatever happens to a queue, in whatever order, and whatever the policy: the sidecar keeps its promises."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from asynq_ttl.asynq.script_shape import Kind
from asynq_ttl.rewriting import wrappers
from asynq_ttl.rewriting.call import Rewrite
from asynq_ttl.rewriting.registry import Script
from asynq_ttl.rewriting.rewriter import Rewriter
from asynq_ttl.sweep.sweeper import Sweeper
from asynq_ttl.wire.commands import Command
from support.servers import Server
from trials.model.machine import QueueMachine
from trials.model.policy_cases import CASES, DONE, REPLACED, SHORT, PolicyCase
from trials.model.sidecar_thread import SidecarThread

# How many new histories `make model` tries on each server; without it, always the same few.
EXAMPLES = int(os.environ.get("ASYNQ_TTL_MODEL_EXAMPLES", "0"))
BUDGET = settings(
    max_examples=EXAMPLES or 50,
    stateful_step_count=60,
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    print_blob=bool(EXAMPLES),
    # A history takes as long as its commands do on a real server.
    suppress_health_check=[HealthCheck.too_slow],
)
# Enough to find what is broken on purpose; nobody reads the history, so it is not made short.
FINDING = settings(BUDGET, max_examples=1_000, derandomize=True, phases=[Phase.generate], report_multiple_bugs=False)

COMPLAINTS = r"TTL|no message|the reply is|tasks and their states|tasks in|entries and scores|locks|ghosts|listed"
# A dequeue takes off only TTLs that the other wrappers have let through. Before v0.22 it has a kind of its own. What
# schedulers record is no task, so no history of a queue has it.
NOT_MISSED = (Kind.DEQUEUE, Kind.DEQUEUE_TIMED, Kind.RECORD)
NEEDED = [kind for kind in Kind if kind in wrappers.WRAPPED_KINDS and kind not in NOT_MISSED]


@pytest.fixture
def sidecar(server: Server) -> Iterator[SidecarThread]:
    """A sidecar to be started and stopped at will."""
    with SidecarThread(server) as sidecar:
        yield sidecar


@pytest.fixture
def redis_sidecar(redis_server: Server) -> Iterator[SidecarThread]:
    """The same, in front of one kind of server only."""
    with SidecarThread(redis_server) as sidecar:
        yield sidecar


# To shorten a history that fails takes minutes.
@pytest.mark.timeout(max(600, EXAMPLES))
def test_every_history(server: Server, sidecar: SidecarThread) -> None:
    """Redis is as plain Asynq would have it, but for the TTLs that the policy says."""
    run(BUDGET, server, sidecar)


# --- the model finds what is broken on purpose -----------------------------------------------------------------


def leave_out(monkeypatch: pytest.MonkeyPatch, *kinds: Kind) -> None:
    """Have scripts of some kinds forwarded untouched."""
    whole = Rewriter.rewrite

    def rewrite(self: Rewriter, script: Script, command: Command, keys: int) -> Rewrite | None:
        return None if script.kind in kinds else whole(self, script, command, keys)

    monkeypatch.setattr(Rewriter, "rewrite", rewrite)
    if Kind.BY_EFFECT in kinds:
        monkeypatch.setattr(Rewriter, "rewrite_by_effect", lambda _rewriter, _keys: None)


def test_a_bare_expire_is_found_out(
    redis_server: Server, redis_sidecar: SidecarThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What everybody tries first is to set a TTL where a task ends, and nothing else: some history loses a task."""
    leave_out(monkeypatch, Kind.RUN_ONE, Kind.RUN_ALL, Kind.DELETE_ALL, Kind.DEQUEUE, Kind.JANITOR)
    with pytest.raises(AssertionError, match=r"has a TTL|no message|the reply is|tasks and their states"):
        run(FINDING, redis_server, redis_sidecar, (SHORT,))


# Some are found out by the first history, some only by hundreds.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", NEEDED, ids=lambda kind: kind.value)
def test_a_wrapper_that_is_missing_is_found_out(
    redis_server: Server, redis_sidecar: SidecarThread, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    """Each wrapper is there for a reason: without it some history breaks a promise."""
    leave_out(monkeypatch, kind)
    with pytest.raises(AssertionError, match=COMPLAINTS):
        run(FINDING, redis_server, redis_sidecar, ({Kind.DONE: DONE, Kind.ENQUEUE: REPLACED}.get(kind, SHORT),))


def test_a_sweeper_that_is_missing_is_found_out(
    redis_server: Server, redis_sidecar: SidecarThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without rounds of the sweeper what is due stays."""

    async def nothing(_sweeper: Sweeper) -> None:
        pass

    monkeypatch.setattr(Sweeper, "sweep", nothing)
    with pytest.raises(AssertionError, match=COMPLAINTS):
        run(FINDING, redis_server, redis_sidecar, (SHORT,))


def run(budget: settings, server: Server, sidecar: SidecarThread, policies: tuple[PolicyCase, ...] = CASES) -> None:
    """Try histories."""

    def machine() -> RuleBasedStateMachine:
        return QueueMachine(server, sidecar, policies)

    run_state_machine_as_test(machine, settings=budget)  # type: ignore[arg-type] # any factory will do
