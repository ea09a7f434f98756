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
from support.servers import Server, free_port, start_redis


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


async def test_a_redis_that_starts_again_has_a_wrapper_before_a_client_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client may be back sooner than the sidecar's own connection: it waits, and does not go on untouched."""
    monkeypatch.setattr(control_module, "ACTIVATION_TIMEOUT_SECONDS", 60)
    registry = ScriptRegistry()
    told: list[Activated] = []
    port = free_port()
    control = ControlConnection(Endpoint(parse_upstream(f"redis://127.0.0.1:{port}/0")), registry, told.append)
    script = registry.learn(scripts("v0.26.0")["enqueueCmd"])
    waiting = asyncio.create_task(control.activate(script))
    try:
        await asyncio.sleep(0.2)  # several attempts that are refused
        assert not told
        with start_redis(port=port) as server, server.client() as client:
            await waiting
            assert script.status is Status.ACTIVE
            assert client.script_exists(script.wrapper_sha.decode()) == [True]
    finally:
        await control.close()
    assert [activated.error for activated in told] == [""]
