"""Finds the master that Sentinels watch, and follows it when it changes.

Invariants:

* Only a server that says of itself that it is a master becomes the upstream.
* An answer with a newer epoch than that of the known master wins at once. One that is not newer wins only if the
  majority of the Sentinels give it, none of them names the known master, and that is none any more. So no Sentinel
  that was cut off for a while, or set up anew, can lead back to an old master.
* At the start the newest answer of a majority wins. If too few Sentinels answer, those that do are enough in a moment.
* Once a Sentinel has said that it is about to promote a replica, nobody talks to the old master: what that took then
  would be lost. Clients that connect meanwhile wait; the wrappers are loaded before they get through.

Each Sentinel publishes what it does, and is asked once a second besides, so that a lost message costs no more than
that. Source: the Redis documentation, "Sentinel client spec" and "Sentinel Pub/Sub messages".
"""

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from asynq_ttl.net.address import Address
from asynq_ttl.upstream.endpoint import Endpoint

_log = logging.getLogger("asynq_ttl.sentinel")

_POLL_SECONDS = 1.0
_FIRST_POLL_SECONDS = 0.1
_TIMEOUT_SECONDS = 2.0
# How long a majority is waited for at the start, from the first answer on.
_PATIENCE_SECONDS = 1.0
# A Sentinel promotes the replica at its next tick, 52 to 100 ms after it has said that it is about to. So long commands
# under way may take to be answered; what they wrote still has time to reach the replica.
_LEAVE_SECONDS = 0.02
# A failover that was announced either happens by then or was given up.
_HOLD_SECONDS = 5.0

_ABOUT_TO_PROMOTE = "+failover-state-send-slaveof-noone"
_GIVEN_UP = "-failover-abort-"
_CHANNELS = ("+switch-master", "+promoted-slave", _ABOUT_TO_PROMOTE)


class Follower(Protocol):
    """What has to follow the master."""

    async def leave_master(self, seconds: float) -> None:
        """Let go of the master, and give what is under way a little time to be answered."""

    async def follow_to(self, before: Address | None, now: Address, start_ns: int) -> None:
        """Get ready at a new master; clients wait for it. Must not raise.

        Args:
            before: the old master; None at the start.
            now: the new one.
            start_ns: when the change began, nanoseconds since the epoch.
        """


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a Sentinel says: where the master is, and the epoch in which it became the master."""

    address: Address
    epoch: int


class Sentinels:
    """Keeps an endpoint at the master.

    Args:
        endpoint: what is told where the master is; its upstream names the Sentinels.
        follower: who follows.
    """

    def __init__(self, endpoint: Endpoint, follower: Follower) -> None:
        self.switches = 0
        """How often the master has changed."""
        self.found = asyncio.Event()
        """Set once a master has been found."""
        self._endpoint = endpoint
        self._follower = follower
        self._epoch = -1
        self._lock = asyncio.Lock()
        self._named = endpoint.upstream.sentinels
        self._answers: dict[Address, _Answer] = {}
        self._first_answer_at = 0.0
        self._down: set[Address] = set()
        self._unusable: Address | None = None
        self._left_ns = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def away(self) -> int:
        """How many Sentinels do not help to find the master."""
        return len(self._named) - len(self._answers)

    async def follow(self, address: Address) -> None:
        """Follow what one of the Sentinels says until cancelled.

        Each has a task of its own, and no task group: that would pass a cancellation on only once, and redis-py may
        swallow it.
        """
        sentinel = self._client(address, sentinel=True)
        try:
            while True:
                try:
                    await self._listen(sentinel, address)
                except (RedisError, OSError) as error:
                    self._answers.pop(address, None)
                    if address not in self._down:
                        self._down.add(address)
                        _log.warning("Sentinel %s does not help: %s", address, str(error) or type(error).__name__)
                    await asyncio.sleep(_POLL_SECONDS)
        finally:
            await asyncio.shield(sentinel.aclose())

    async def _listen(self, sentinel: "Redis", address: Address) -> None:
        async with sentinel.pubsub(ignore_subscribe_messages=True) as messages:
            await messages.subscribe(*_CHANNELS)
            await messages.psubscribe(f"{_GIVEN_UP}*")
            while True:
                self._answers[address] = await self._ask(sentinel)
                self._first_answer_at = self._first_answer_at or time.monotonic()
                if address in self._down:
                    self._down.discard(address)
                    _log.info("Sentinel %s is back", address)
                await self._consider(self._answers[address])
                await self._hear(messages)

    async def _ask(self, sentinel: "Redis") -> _Answer:
        """Ask a Sentinel for the epoch first: if the master changes in between, the answer is too old, not too new."""
        name = self._endpoint.upstream.master
        known: Any = await sentinel.execute_command("SENTINEL MASTER", name)
        found: Any = await sentinel.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", name)
        return _Answer(Address(str(found[0]), int(found[1])), int(known["config-epoch"]))

    async def _hear(self, messages: "PubSub") -> None:
        """Wait for what a Sentinel says by itself, or until it is time to ask again."""
        seconds = _POLL_SECONDS if self.found.is_set() else _FIRST_POLL_SECONDS
        message: Any = await messages.get_message(timeout=seconds)
        while message is not None:
            # slave NAME HOST PORT @ MASTER HOST PORT; master MASTER HOST PORT
            channel, words = str(message["channel"]), str(message["data"]).split()
            if channel == _ABOUT_TO_PROMOTE and words[5:6] == [self._endpoint.upstream.master]:
                await self._leave()
            elif channel.startswith(_GIVEN_UP) and words[1:2] == [self._endpoint.upstream.master]:
                await self._give_up()
            message = await messages.get_message()

    async def _leave(self) -> None:
        """Let go of the master, which is about to be none."""
        async with self._lock:
            if not self._endpoint.held:
                _log.info("upstream %s: a replica is about to become the master", self._endpoint)
                await self._let_go(_LEAVE_SECONDS)

    async def _let_go(self, seconds: float) -> None:
        """Keep clients from the master until `_let_through`, or until that takes too long."""
        self._left_ns = time.time_ns()
        self._endpoint.hold()
        self._timer = asyncio.get_running_loop().call_later(_HOLD_SECONDS, self._stay)
        await self._follower.leave_master(seconds)

    def _let_through(self) -> None:
        """Let clients connect again: it is known where the master is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._endpoint.release()

    def _stay(self) -> None:
        """Stay at the master: nothing has come of the change."""
        _log.info("upstream %s: no other server has become the master", self._endpoint)
        self._let_through()

    async def _give_up(self) -> None:
        async with self._lock:
            if self._endpoint.held:
                self._stay()

    async def _consider(self, answer: _Answer) -> None:
        """Move the endpoint to the master that a Sentinel has named, if that answer wins."""
        async with self._lock:
            known = self._endpoint.address
            if known is None:
                best = self._first_choice()
                if best is not None and await self._is_usable(best.address):
                    await self._move(best)
            elif answer.address == known:
                self._epoch = max(self._epoch, answer.epoch)
            elif (answer.epoch > self._epoch or await self._wins(answer, known)) and await self._is_usable(
                answer.address
            ):
                await self._move(answer)

    def _first_choice(self) -> _Answer | None:
        """Return the newest answer; None while more of them are waited for."""
        waited = time.monotonic() - self._first_answer_at
        if len(self._answers) < self._majority and waited < _PATIENCE_SECONDS:
            return None
        return max(self._answers.values(), key=lambda answer: answer.epoch)

    async def _wins(self, answer: _Answer, known: Address) -> bool:
        """Say whether an answer that is not newer wins: a majority gives it, and the known master is none any more."""
        named = [other.address for other in self._answers.values()]
        agreed = named.count(answer.address) >= self._majority and known not in named
        return agreed and bool(await self._fault_of(known))

    @property
    def _majority(self) -> int:
        return len(self._named) // 2 + 1

    async def _move(self, answer: _Answer) -> None:
        before, self._epoch = self._endpoint.address, answer.epoch
        if not self._endpoint.held:
            await self._let_go(0)
        await self._endpoint.moved(answer.address)
        try:
            await self._follower.follow_to(before, answer.address, self._left_ns)
        finally:
            self._let_through()
        self.found.set()
        if before is None:
            _log.info("upstream %s is at %s", self._endpoint, answer.address)
        else:
            self.switches += 1
            _log.warning("upstream %s has moved from %s to %s", self._endpoint, before, answer.address)

    async def _is_usable(self, address: Address) -> bool:
        """Say whether a server is a master that takes the sidecar's credentials; if it is not, tell why once."""
        fault = await self._fault_of(address)
        if not fault:
            self._unusable = None
            return True
        self._endpoint.refuse(f"the Sentinels say that {self._endpoint.upstream.master} is {address}, but {fault}")
        if address != self._unusable:
            self._unusable = address
            _log.warning("the master %s that the Sentinels name cannot be used: %s", address, fault)
        return False

    async def _fault_of(self, address: Address) -> str:
        """Return why a server is no master for the sidecar; empty if it is one."""
        server = self._client(address, sentinel=False)
        try:
            role: Any = await server.execute_command("ROLE")
        except (RedisError, OSError) as error:
            return str(error) or type(error).__name__
        finally:
            await asyncio.shield(server.aclose())  # cancelled before its first step it would hang up on nobody
        return "" if role and role[0] in (b"master", "master") else "it is a replica"

    def _client(self, address: Address, *, sentinel: bool) -> "Redis":
        upstream = replace(self._endpoint.upstream, address=address, sentinels=(), master="", database=0)
        if sentinel:
            user, password = upstream.sentinel_username, upstream.sentinel_password
            file = upstream.sentinel_password_file
            upstream = replace(upstream, username=user, password=password, password_file=file)
        # One context, so that certificates that are replaced count here too.
        there = Endpoint(upstream, tls=self._endpoint.tls)
        return there.redis(
            max_connections=2,
            timeout=_TIMEOUT_SECONDS,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            decode_responses=True,
        )
