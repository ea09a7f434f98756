"""The sidecar's own connection to Redis: it tells whether Redis is there and what time it has, and loads the wrappers.

Invariant: a script is `ACTIVE` only after Redis has compiled its wrapper *and* its original, so no text that Redis
would refuse is ever made acceptable by being wrapped.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,  # noqa: A004 - redis-py's
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as SilentError

from asynq_ttl.events import Activated
from asynq_ttl.rewriting.registry import Script, ScriptRegistry, Status
from asynq_ttl.upstream.endpoint import Endpoint

_log = logging.getLogger("asynq_ttl.upstream")

# A client waits this long for a wrapper to be loaded; then its command goes to Redis as it came.
ACTIVATION_TIMEOUT_SECONDS = 2.0
_PING_INTERVAL_SECONDS = 1.0
_RETRY_SECONDS = 0.2
_AGAIN_SECONDS = 0.05
_FIRST_RETRY_SECONDS = 0.1
# A server that says nothing, or is just starting.
_AWAY = (ConnectionError, SilentError, OSError)


class ControlConnection:
    """Watches over one Redis and loads wrappers into it.

    Args:
        endpoint: the server.
        registry: the scripts learnt so far.
        on_activated: told of each wrapper that was loaded or was not.
        on_cluster: told when the server turns out to be a node of a cluster.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        registry: ScriptRegistry,
        on_activated: Callable[[Activated], None],
        on_cluster: Callable[[], None] = lambda: None,
    ) -> None:
        self.upstream = endpoint.upstream
        self.problem = "not connected yet"
        """Why the server cannot be used; empty when it can."""
        self._registry = registry
        self._on_activated = on_activated
        self._on_cluster = on_cluster
        self._loads: dict[bytes, asyncio.Task[None]] = {}
        self._not_before = 0.0
        # A sidecar that starts under load activates many scripts at once: they wait for a connection, they do not fail.
        self._redis: Redis = endpoint.redis(
            max_connections=2,
            timeout=ACTIVATION_TIMEOUT_SECONDS,
            socket_timeout=ACTIVATION_TIMEOUT_SECONDS,
            socket_connect_timeout=ACTIVATION_TIMEOUT_SECONDS,
        )

    async def run(self) -> None:
        """Keep an eye on the server until cancelled; load the wrappers again whenever it comes (back) up."""
        retry = _FIRST_RETRY_SECONDS
        while True:
            try:
                await self._read_clock()
                if self.problem:
                    await self._load_again()
                    await self._detect_cluster()
                    _log.info("upstream %s is up", self.upstream)
                    self.problem = ""
                    self._not_before = 0.0
                for script in self._registry.missing():
                    await self.activate(script)
                    if script.status is Status.NEW:
                        await self._read_clock()  # a server that is away keeps the rest from being waited for
                retry = _FIRST_RETRY_SECONDS
                await asyncio.sleep(_PING_INTERVAL_SECONDS)
            except (RedisError, OSError) as error:
                if not self.problem or self.problem == "not connected yet":
                    _log.warning("upstream %s is down: %s", self.upstream, error)
                self.problem = str(error) or type(error).__name__
                self._registry.clock.forget()
                await asyncio.sleep(retry)
                retry = min(retry * 2, _PING_INTERVAL_SECONDS)

    async def _read_clock(self) -> None:
        """Ask for the time, which also shows that the server is there; it is not known where nobody may ask."""
        asked = time.monotonic()
        try:
            seconds, microseconds = await self._redis.time()
        except NoPermissionError:
            await self._redis.ping()
        else:
            self._registry.clock.note(seconds + microseconds / 1e6, asked, time.monotonic(), time.monotonic)

    async def _detect_cluster(self) -> None:
        """Tell if the server is a node of a cluster; where the sidecar may not ask, nothing is told."""
        with suppress(ResponseError):
            info = await self._redis.info("cluster")
            if info.get("cluster_enabled"):
                self._on_cluster()

    async def activate(self, script: Script) -> None:
        """Load a script's wrapper, once however many ask for it. `script.status` tells the result; never raises.

        While the server is away it is tried again and again, so whoever waits goes on with the wrapper as soon as the
        server is back, or goes on without it after `ACTIVATION_TIMEOUT_SECONDS`. For a moment after a server has
        refused to load one nobody waits for the next refusal.
        """
        load = self._loads.get(script.wrapper_sha)
        if load is None:
            if time.monotonic() < self._not_before:
                return
            load = self._loads[script.wrapper_sha] = asyncio.create_task(self._activate(script))
            load.add_done_callback(lambda _: self._loads.pop(script.wrapper_sha, None))
        await asyncio.shield(load)

    async def reload(self) -> None:
        """Load the wrappers into another server, the upstream from now on. If that fails, `run` goes on trying."""
        self.problem = "it has moved"
        self._registry.clock.forget()
        try:
            async with asyncio.timeout(ACTIVATION_TIMEOUT_SECONDS):
                await self._load_again()
        except (RedisError, OSError, TimeoutError) as error:
            self.problem = str(error) or type(error).__name__
        else:
            self.problem = ""

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()

    async def _activate(self, script: Script) -> None:
        started = time.time_ns()
        problem = ""
        try:
            await self._load_once_there(script)
        except (RedisError, OSError) as error:
            problem = str(error) or type(error).__name__
            if isinstance(error, ResponseError) and "compil" in problem:
                self._registry.refused(script)
            elif not isinstance(error, _AWAY):
                self._not_before = time.monotonic() + _RETRY_SECONDS
        else:
            self._registry.activated(script)
        self._on_activated(
            Activated(
                script.kind.value,
                script.sha.decode(),
                script.wrapper_sha.decode(),
                started,
                time.time_ns(),
                problem,
                refused=script.status is Status.BROKEN,
            )
        )

    async def _load_once_there(self, script: Script) -> None:
        """Load a wrapper. While the server is away it is tried again, at first at once: a connection was an old one."""
        pause = 0.0
        away: Exception = TimeoutError(f"no answer in {ACTIVATION_TIMEOUT_SECONDS:g} s")
        try:
            async with asyncio.timeout(ACTIVATION_TIMEOUT_SECONDS):
                while True:
                    try:
                        return await self._load(script)
                    except AuthenticationError:
                        raise
                    except _AWAY as error:
                        away = error
                    await asyncio.sleep(pause)
                    pause = _AGAIN_SECONDS
        except TimeoutError:
            raise away from None

    async def _load(self, script: Script) -> None:
        # The original too: a client may ask SCRIPT EXISTS for what it believes to have sent.
        for text in (script.text, script.wrapper):
            await self._redis.execute_command("SCRIPT LOAD", text)

    async def _load_again(self) -> None:
        for script in self._registry.wrapped():
            if script.status is Status.ACTIVE:
                await self._redis.execute_command("SCRIPT LOAD", script.wrapper)
