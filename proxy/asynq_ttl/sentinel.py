"""Finds the master that Sentinels watch, and follows it when it changes.

Invariants:

* Only a server that says of itself that it is a master becomes the upstream.
* What one Sentinel says is believed over what is known if its epoch is newer, or if the server that is known is no
  master any more. So a Sentinel that was cut off for a while cannot lead back to an old master.

Each Sentinel is listened to (`+switch-master`) and asked once a second, so that no message can be missed for long.
Source: the Redis documentation, "Sentinel client spec".
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from asynq_ttl.address import Address
from asynq_ttl.endpoint import Endpoint

_log = logging.getLogger("asynq_ttl.sentinel")

_POLL_SECONDS = 1.0
_TIMEOUT_SECONDS = 2.0


class Sentinels:
    """Keeps an endpoint at the master.

    Args:
        endpoint: what is told where the master is; its upstream names the Sentinels.
        on_moved: called when the endpoint has been told of a master.
    """

    def __init__(self, endpoint: Endpoint, on_moved: Callable[[], None]) -> None:
        self.switches = 0
        """How often the master has changed."""
        self.found = asyncio.Event()
        """Set once a master has been found."""
        self._endpoint = endpoint
        self._on_moved = on_moved
        self._epoch = -1
        self._lock = asyncio.Lock()
        self._down: set[Address] = set()

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            for address in self._endpoint.upstream.sentinels:
                group.create_task(self._follow(address))

    async def _follow(self, address: Address) -> None:
        sentinel = self._client(address, sentinel=True)
        try:
            while True:
                try:
                    await self._listen(sentinel, address)
                except (RedisError, OSError) as error:
                    if address not in self._down:
                        self._down.add(address)
                        _log.warning("Sentinel %s does not help: %s", address, str(error) or type(error).__name__)
                    await asyncio.sleep(_POLL_SECONDS)
        finally:
            await sentinel.aclose()

    async def _listen(self, sentinel: "Redis", address: Address) -> None:
        name = self._endpoint.upstream.master
        async with sentinel.pubsub(ignore_subscribe_messages=True) as messages:
            await messages.subscribe("+switch-master")
            while True:
                found: Any = await sentinel.execute_command("SENTINEL MASTER", name)
                if address in self._down:
                    self._down.discard(address)
                    _log.info("Sentinel %s is back", address)
                await self._consider(Address(str(found["ip"]), int(found["port"])), int(found["config-epoch"]))
                await messages.get_message(timeout=_POLL_SECONDS)

    async def _consider(self, found: Address, epoch: int) -> None:
        """Move the endpoint if what a Sentinel has said is newer or better than what is known."""
        async with self._lock:
            known = self._endpoint.address
            if found == known:
                self._epoch = max(self._epoch, epoch)
                return
            if known is not None and epoch <= self._epoch and await self._is_master(known):
                return
            if not await self._is_master(found):
                return
            self._epoch = epoch
            await self._endpoint.moved(found)
            self._on_moved()
            self.found.set()
            if known is None:
                _log.info("upstream %s is at %s", self._endpoint, found)
            else:
                self.switches += 1
                _log.warning("upstream %s has moved from %s to %s", self._endpoint, known, found)

    async def _is_master(self, address: Address) -> bool:
        server = self._client(address, sentinel=False)
        try:
            role: Any = await server.execute_command("ROLE")
        except (RedisError, OSError):
            return False
        finally:
            await server.aclose()
        return bool(role) and role[0] in (b"master", "master")

    def _client(self, address: Address, *, sentinel: bool) -> "Redis":
        upstream = replace(self._endpoint.upstream, address=address, sentinels=(), master="", database=0)
        if sentinel:
            user, password = upstream.sentinel_username, upstream.sentinel_password
            upstream = replace(upstream, username=user, password=password, password_file="")
        there = Endpoint(upstream)
        there.tls = self._endpoint.tls  # one context, so that certificates that are replaced count here too
        return there.redis(
            max_connections=2,
            timeout=_TIMEOUT_SECONDS,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            decode_responses=True,
        )
