"""The sidecar's own connection to a real Redis."""

import asyncio

import pytest

from asynq_ttl.events import Activated
from asynq_ttl.net.address import parse_upstream
from asynq_ttl.rewriting.registry import ScriptRegistry, Status
from asynq_ttl.upstream import control as control_module
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.upstream.endpoint import Endpoint
from support.asynq_source import scripts
from support.servers import Server


@pytest.fixture
def refused() -> list[Activated]:
    """Scripts that Redis refused."""
    return []


async def test_scripts_that_are_met_at_once_are_all_activated(
    server: Server, refused: list[Activated], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sidecar that starts under load meets every script within a moment: none of them fails open."""
    monkeypatch.setattr(control_module, "ACTIVATION_TIMEOUT_SECONDS", 60)  # however slow this machine is
    registry = ScriptRegistry()
    control = ControlConnection(
        Endpoint(parse_upstream(server.url)),
        registry,
        lambda activated: refused.append(activated) if activated.error else None,
    )
    wrapped = [script for text in scripts("v0.26.0").values() if (script := registry.learn(text)).wrapper]
    assert len(wrapped) > 10
    try:
        await asyncio.gather(*(control.activate(script) for script in wrapped))
    finally:
        await control.close()
    assert {script.status for script in wrapped} == {Status.ACTIVE}
    assert not refused
