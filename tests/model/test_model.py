"""Whatever happens to a queue, in whatever order, and whatever the policy: the sidecar keeps its promises."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from model.machine import QueueMachine
from model.sidecar_thread import SidecarThread
from servers import Server

# How many histories `make model` tries on each server; without it, always the same few.
EXAMPLES = int(os.environ.get("ASYNQ_TTL_MODEL_EXAMPLES", "0"))
BUDGET = settings(
    max_examples=EXAMPLES or 100,
    stateful_step_count=60,
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    print_blob=bool(EXAMPLES),
    # A history takes as long as its commands on a real server do.
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.fixture
def sidecar(server: Server) -> Iterator[SidecarThread]:
    """A sidecar to be started and stopped at will."""
    with SidecarThread(server) as sidecar:
        yield sidecar


def test_every_history(server: Server, sidecar: SidecarThread) -> None:
    """Redis is as plain Asynq would have it, but for the TTLs that the policy says."""
    run_state_machine_as_test(lambda: QueueMachine(server, sidecar), settings=BUDGET)
