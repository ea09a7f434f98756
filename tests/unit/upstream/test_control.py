"""Loading wrappers and watching over Redis, against a Redis that answers as a test says."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, ResponseError
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import TimeoutError as SilentError

from asynq_ttl.events import Activated
from asynq_ttl.net.address import parse_upstream
from asynq_ttl.rewriting.registry import Script, ScriptRegistry, Status
from asynq_ttl.upstream import control as control_module
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.upstream.endpoint import Endpoint
from support.small_scripts import ARCHIVE, COMPLETE
from support.waiting import until

REFUSED = ResponseError("Error compiling script (new function): user_script:1: '=' expected")


class FakeRedis:
    """A Redis that remembers what was loaded; what goes wrong is set."""

    def __init__(self) -> None:
        self.loaded: list[bytes] = []
        self.pings = self.loads = 0
        self.fault: Exception | None = None
        """Raised by whatever is asked."""
        self.refusals: dict[bytes, list[Exception]] = {}
        """Raised when a text is loaded, one after the other."""
        self.hold = asyncio.Event()
        """Nothing is loaded while it is not set."""
        self.hold.set()
        self.untold = False
        """Whether the time is not to be had."""
        self.clustered: bool | Exception = False
        self.closed = False

    async def ping(self) -> None:
        """Answer, or not."""
        self.pings += 1
        if self.fault is not None:
            raise self.fault

    async def time(self) -> tuple[int, int]:
        """Tell the time, or not."""
        if self.untold:
            raise NoPermissionError("may not")
        await self.ping()
        return 1_700_000_000, 500_000

    async def execute_command(self, name: str, text: bytes) -> None:
        """Load a script."""
        assert name == "SCRIPT LOAD"
        self.loads += 1
        await self.hold.wait()
        if self.fault is not None:
            raise self.fault
        if refusals := self.refusals.get(text):
            raise refusals.pop(0)
        self.loaded.append(text)

    async def info(self, section: str) -> dict[str, Any]:
        """Say whether it is a node of a cluster."""
        assert section == "cluster"
        if isinstance(self.clustered, Exception):
            raise self.clustered
        return {"cluster_enabled": int(self.clustered)}

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.closed = True


class FakeEndpoint(Endpoint):
    """An endpoint whose every client is one fake."""

    def __init__(self) -> None:
        super().__init__(parse_upstream("redis://127.0.0.1:6379/0"))
        self.server = FakeRedis()

    def redis(self, database: int | None = None, **options: Any) -> Redis:
        """Return the fake."""
        return cast("Redis", self.server)


class Watched:
    """A control connection, the Redis behind it, and what it tells."""

    def __init__(self) -> None:
        self.told: list[Activated] = []
        self.clusters = 0
        self.registry = ScriptRegistry()
        endpoint = FakeEndpoint()
        self.redis = endpoint.server
        self.control = ControlConnection(endpoint, self.registry, self.told.append, self._cluster)

    def _cluster(self) -> None:
        self.clusters += 1

    async def activated(self, text: bytes) -> Script:
        """Return a script whose wrapper was loaded just now, or was not."""
        script = self.registry.learn(text)
        await self.control.activate(script)
        return script

    async def running_until(self, condition: Callable[[], bool]) -> None:
        """Let it watch over Redis until something holds."""
        task = asyncio.create_task(self.control.run())
        await until(condition)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """One that is quick."""
    monkeypatch.setattr(control_module, "_PING_INTERVAL_SECONDS", 0.02)
    monkeypatch.setattr(control_module, "_FIRST_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(control_module, "_RETRY_SECONDS", 0.1)
    return Watched()


# --- loading a wrapper --------------------------------------------------------------------------------------


async def test_a_script_is_active_once_redis_has_compiled_both_texts(watched: Watched) -> None:
    """The original first; then whoever is told knows which script it is, and when it was loaded."""
    script = await watched.activated(COMPLETE)
    assert watched.redis.loaded == [COMPLETE, script.wrapper]
    assert script.status is Status.ACTIVE
    (told,) = watched.told
    assert (told.kind, told.sha, told.wrapper_sha) == ("complete", script.sha.decode(), script.wrapper_sha.decode())
    assert (told.error, told.refused) == ("", False)
    assert 0 < told.start_ns <= told.end_ns


async def test_what_redis_would_refuse_is_not_made_acceptable(watched: Watched) -> None:
    """If the original does not compile, its wrapper is not even tried, and never will be."""
    watched.redis.refusals[COMPLETE] = [REFUSED]
    script = await watched.activated(COMPLETE)
    assert script.status is Status.BROKEN
    assert watched.redis.loaded == []
    assert watched.told[0].refused
    assert "compiling" in watched.told[0].error


async def test_a_wrapper_that_does_not_compile_is_refused(watched: Watched) -> None:
    """Then the script goes to Redis as it is, for good."""
    script = watched.registry.learn(COMPLETE)
    watched.redis.refusals[script.wrapper] = [REFUSED]
    await watched.control.activate(script)
    assert script.status is Status.BROKEN
    assert watched.told[0].refused


async def test_many_ask_and_it_is_loaded_once(watched: Watched) -> None:
    """All of them wait for the same answer."""
    script = watched.registry.learn(COMPLETE)
    watched.redis.hold.clear()
    waiting = [asyncio.create_task(watched.control.activate(script)) for _ in range(5)]
    await asyncio.sleep(0)
    watched.redis.hold.set()
    await asyncio.gather(*waiting)
    assert watched.redis.loaded == [COMPLETE, script.wrapper]
    assert len(watched.told) == 1


async def test_a_client_that_goes_away_takes_nobody_with_it(watched: Watched) -> None:
    """Others still wait for the script that it asked for first."""
    script = watched.registry.learn(COMPLETE)
    watched.redis.hold.clear()
    first = asyncio.create_task(watched.control.activate(script))
    other = asyncio.create_task(watched.control.activate(script))
    await asyncio.sleep(0)
    first.cancel()
    watched.redis.hold.set()
    await other
    assert script.status is Status.ACTIVE


async def test_a_connection_that_was_lost_is_tried_again(watched: Watched) -> None:
    """It may have led to a Redis that has been restarted since; a login that is refused stays refused."""
    watched.redis.refusals[COMPLETE] = [LostConnection("lost")]
    assert (await watched.activated(COMPLETE)).status is Status.ACTIVE
    watched.redis.refusals[ARCHIVE] = [AuthenticationError("WRONGPASS"), LostConnection("not reached")]
    assert (await watched.activated(ARCHIVE)).status is Status.NEW
    assert len(watched.redis.refusals[ARCHIVE]) == 1
    assert [told.error for told in watched.told] == ["", "WRONGPASS"]


async def test_after_a_refusal_nobody_waits_for_another_one(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a moment: then it is tried again. That it may not be loaded does not say that it does not compile."""
    now = 100.0
    monkeypatch.setattr(control_module, "time", SimpleNamespace(monotonic=lambda: now, time_ns=time.time_ns))
    watched.redis.fault = NoPermissionError("may not")
    script = await watched.activated(COMPLETE)
    assert (script.status, watched.told[0].error, watched.told[0].refused) == (Status.NEW, "may not", False)
    watched.redis.fault = None
    await watched.control.activate(script)
    assert len(watched.told) == 1
    now += control_module._RETRY_SECONDS
    await watched.control.activate(script)
    assert script.status is Status.ACTIVE


AWAY = [LostConnection("refused"), BusyLoadingError("LOADING"), SilentError("timed out"), OSError("no route")]


@pytest.mark.parametrize("fault", AWAY, ids=str)
async def test_a_redis_that_was_away_is_waited_for(watched: Watched, fault: Exception) -> None:
    """Whoever has a connection to one that is back calls no script without its wrapper."""
    watched.redis.fault = fault
    script = watched.registry.learn(COMPLETE)
    waiting = asyncio.create_task(watched.control.activate(script))
    await until(lambda: watched.redis.loads > 3)
    watched.redis.fault = None
    await waiting
    assert script.status is Status.ACTIVE
    assert [told.error for told in watched.told] == [""]


async def test_a_redis_that_stays_away_is_given_up_and_waited_for_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client does not wait for ever, and the next one that comes may find it there."""
    monkeypatch.setattr(control_module, "ACTIVATION_TIMEOUT_SECONDS", 0.05)
    watched.redis.fault = LostConnection("away")
    script = await watched.activated(COMPLETE)
    assert (script.status, watched.told[0].error, watched.told[0].refused) == (Status.NEW, "away", False)
    watched.redis.fault = None
    await watched.control.activate(script)
    assert script.status is Status.ACTIVE


async def test_a_redis_that_does_not_answer_is_given_up(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client does not wait for ever."""
    monkeypatch.setattr(control_module, "ACTIVATION_TIMEOUT_SECONDS", 0.05)
    watched.redis.hold.clear()
    script = await watched.activated(COMPLETE)
    assert (script.status, watched.told[0].error) == (Status.NEW, "no answer in 0.05 s")


# --- watching over Redis ------------------------------------------------------------------------------------


async def test_a_problem_is_there_until_redis_answers_and_when_it_no_longer_does(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once for each time that Redis goes down, and once when it is up."""
    caplog.set_level(logging.INFO, "asynq_ttl.upstream")
    assert watched.control.problem == "not connected yet"
    watched.redis.fault = LostConnection("refused")
    await watched.running_until(lambda: watched.redis.pings > 2)
    assert watched.control.problem == "refused"
    watched.redis.fault = None
    await watched.running_until(lambda: not watched.control.problem)
    assert caplog.messages == [
        "upstream redis://127.0.0.1:6379/0 is down: refused",
        "upstream redis://127.0.0.1:6379/0 is up",
    ]


async def test_wrappers_are_loaded_again_before_redis_counts_as_up(watched: Watched) -> None:
    """A Redis that was restarted has none; those that were never loaded are left to whoever asks."""
    script = await watched.activated(COMPLETE)
    watched.registry.learn(ARCHIVE)
    del watched.redis.loaded[:]
    watched.redis.refusals[script.wrapper] = [LostConnection("going down")]
    await watched.running_until(lambda: not watched.control.problem)
    assert watched.redis.loaded == [script.wrapper]
    assert watched.redis.pings >= 2


@pytest.mark.parametrize(("clustered", "told"), [(True, 1), (False, 0), (NoPermissionError("NOPERM"), 0)])
async def test_a_node_of_a_cluster_is_told_of(watched: Watched, clustered: bool | Exception, told: int) -> None:
    """Once each time that Redis comes up; a Redis that may not be asked counts as up all the same."""
    watched.redis.clustered = clustered
    await watched.running_until(lambda: not watched.control.problem and watched.redis.pings > 2)
    assert watched.clusters == told


async def test_another_master_has_the_wrappers_before_clients_come(watched: Watched) -> None:
    """What was loaded into the old one is loaded into the new one."""
    script = await watched.activated(COMPLETE)
    del watched.redis.loaded[:]
    await watched.control.reload()
    assert watched.redis.loaded == [script.wrapper]
    assert watched.control.problem == ""


async def test_a_master_that_cannot_be_reached_is_a_problem(watched: Watched) -> None:
    """Arriving does not raise, and `run` goes on trying."""
    await watched.activated(COMPLETE)
    watched.redis.fault = LostConnection("not yet")
    await watched.control.reload()
    assert watched.control.problem == "not yet"
    watched.redis.fault = None
    await watched.running_until(lambda: not watched.control.problem)


async def test_closing_closes_the_connection(watched: Watched) -> None:
    """Nothing is left open at the end of the sidecar."""
    await watched.control.close()
    assert watched.redis.closed


async def test_what_another_node_of_the_cluster_has_is_loaded_here(watched: Watched) -> None:
    """Before any client calls it here; also what another node got while this one was up already."""
    other = ScriptRegistry(beside=watched.registry)
    first = other.learn(COMPLETE)
    other.activated(first)
    await watched.running_until(lambda: watched.registry.as_here(first).status is Status.ACTIVE)
    second = other.learn(ARCHIVE)
    other.activated(second)
    await watched.running_until(lambda: watched.registry.as_here(second).status is Status.ACTIVE)
    assert watched.redis.loaded == [COMPLETE, first.wrapper, ARCHIVE, second.wrapper]


async def test_a_redis_that_goes_away_is_not_waited_for_by_each_script(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is down after the first that could not be loaded, not after all of them."""
    monkeypatch.setattr(control_module, "ACTIVATION_TIMEOUT_SECONDS", 0.05)

    async def go_away(_name: str, _text: bytes) -> None:
        watched.redis.fault = LostConnection("gone")
        raise watched.redis.fault

    monkeypatch.setattr(watched.redis, "execute_command", go_away)
    other = ScriptRegistry(beside=watched.registry)
    for text in (COMPLETE, ARCHIVE):
        other.activated(other.learn(text))
    await watched.running_until(lambda: watched.control.problem == "gone")
    assert len(watched.told) == 1


async def test_redis_s_clock_is_known_while_redis_is_there(watched: Watched) -> None:
    """Who may not ask for it, or finds nobody to ask, knows nothing; another Redis has another clock."""
    clock = watched.registry.clock
    watched.redis.untold = True
    await watched.running_until(lambda: not watched.control.problem and watched.redis.pings > 2)
    assert not clock.agrees(1_700_000_000)
    watched.redis.untold = False
    await watched.running_until(lambda: clock.agrees(1_700_000_000))
    await watched.control.reload()
    assert not clock.agrees(1_700_000_000)
    await watched.running_until(lambda: clock.agrees(1_700_000_000))
    watched.redis.fault = LostConnection("gone")
    await watched.running_until(lambda: not clock.agrees(1_700_000_000))
