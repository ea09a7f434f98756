import asyncio

import pytest

from asynq_ttl.events import Activated
from asynq_ttl.net.address import parse_upstream
from asynq_ttl.rewriting.registry import ScriptRegistry, Status
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.upstream.endpoint import Endpoint
from support.servers import free_port
from support.small_scripts import COMPLETE


@pytest.fixture
def told() -> list[Activated]:
    """What was told of activations."""
    return []


@pytest.fixture
def registry() -> ScriptRegistry:
    """The scripts learnt."""
    return ScriptRegistry()


@pytest.fixture
def control(registry: ScriptRegistry, told: list[Activated]) -> ControlConnection:
    """A control connection to where nobody listens."""
    return ControlConnection(Endpoint(parse_upstream(f"redis://127.0.0.1:{free_port()}/0")), registry, told.append)


async def test_a_script_stays_new_where_redis_is_not_there(
    control: ControlConnection, registry: ScriptRegistry, told: list[Activated]
) -> None:
    """It is told why, and it may be tried again: Redis has refused nothing."""
    script = registry.learn(COMPLETE)
    await control.activate(script)
    await control.close()
    assert script.status is Status.NEW
    assert [(one.kind, one.sha, one.refused) for one in told] == [("complete", script.sha.decode(), False)]
    assert told[0].error
    assert told[0].start_ns <= told[0].end_ns


async def test_many_who_wait_for_one_script_load_it_once(
    control: ControlConnection, registry: ScriptRegistry, told: list[Activated]
) -> None:
    """However many clients need it; and for a moment after a failure nobody waits for another one."""
    script = registry.learn(COMPLETE)
    await asyncio.gather(*(control.activate(script) for _ in range(5)))
    await control.activate(script)
    await control.close()
    assert len(told) == 1


async def test_a_server_that_is_away_is_a_problem(control: ControlConnection) -> None:
    """Until it has been reached; and another master that cannot be reached is one too."""
    assert control.problem == "not connected yet"
    running = asyncio.create_task(control.run())
    async with asyncio.timeout(5):
        while control.problem == "not connected yet":  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    await control.close()
    assert "onnect" in control.problem
