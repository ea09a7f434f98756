"""The lock in Redis by which one sidecar sweeps and the others wait.

Of the sidecars with the same coverage (the same policy, and the same queues left from earlier ones) one has a lock. A
sidecar with another coverage may know nothing of the queues and retentions of this one, so it takes a lock beside it.
Two that sweep the same would do no harm, only work twice.

Invariants:

* A lock always has a TTL: a sidecar that dies leaves nothing behind, and holds nobody up for long.
* No lock is written by asking whether it is free, so where there is nothing to sweep there is no key.
* A lock is given back, and its time renewed, only by the sidecar that has it.
"""

import secrets
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from asynq_ttl.lua.loader import load

LOCK_KEY = "asynq-ttl:sweeper"

# What `take_lock` returns; 0 where a sidecar with the same coverage has the lock.
_TAKEN = 1
_HELD_FOR_ANOTHER_COVERAGE = 2


class Lock:
    """The lock of one sidecar.

    Args:
        lifetime_seconds: how long it is held without being taken anew.
        name: returns its key.
    """

    def __init__(self, lifetime_seconds: float, name: Callable[[], str] = lambda: LOCK_KEY) -> None:
        self._name = name
        self._milliseconds = int(lifetime_seconds * 1000)
        self._token = secrets.token_hex(8)
        # The key of the lock that this sidecar holds; empty without.
        self._key = ""
        self._take_script = load("sweep/take_lock")
        self._release_script = load("sweep/release_lock")

    @property
    def held(self) -> bool:
        """Whether this sidecar had the lock when it last asked."""
        return bool(self._key)

    async def is_free(self, client: "Redis", coverage: str) -> bool:
        """Say whether this sidecar has the lock or could take it. Nothing is written.

        Args:
            client: a connection to the database that the locks are in.
            coverage: a short name for the queues and retentions that this sidecar knows of.

        Raises:
            RedisError: Redis refused it or cannot be reached.
        """
        free, _ = await self._ask(client, coverage, 0)
        return free

    async def take(self, client: "Redis", coverage: str) -> bool:
        """Take the lock, or keep it for another lifetime; return whether this sidecar may sweep.

        A Redis that is full is swept without a lock, and so is one with keys of another type in the locks' places.

        Args:
            client: a connection to the database that the locks are in.
            coverage: a short name for the queues and retentions that this sidecar knows of.

        Raises:
            RedisError: Redis refused it or cannot be reached; `held` stays as it was.
        """
        may_sweep, self._key = await self._ask(client, coverage, self._milliseconds)
        return may_sweep

    async def _ask(self, client: "Redis", coverage: str, milliseconds: int) -> tuple[bool, str]:
        """Return whether this sidecar may sweep, and the key of the lock that says so; empty for none."""
        held_by_others, name = False, self._name()
        for key in (name, f"{name}:{coverage}"):
            try:
                answer: Any = await client.eval(self._take_script, 1, key, self._token, str(milliseconds), coverage)
            except ResponseError as error:
                if "WRONGTYPE" in str(error):
                    continue
                if "used memory > 'maxmemory'" not in str(error):
                    raise
                # Redis is full, so no lock can be written; removing what is due makes room.
                return True, ""
            if answer == _TAKEN:
                return True, key
            if answer != _HELD_FOR_ANOTHER_COVERAGE:
                return False, ""
            held_by_others = key != name
        return not held_by_others, ""

    async def keep(self, client: "Redis", coverage: str) -> bool:
        """Renew the lock in the middle of a long round; return whether this sidecar may go on. Without a lock it may.

        Raises:
            RedisError: Redis refused it or cannot be reached.
        """
        return not self.held or await self.take(client, coverage)

    def let_expire(self) -> None:
        """Do not count on the lock any more. Redis is not asked: the key goes when its time is over."""
        self._key = ""

    async def release(self, client: "Redis") -> None:
        """Give the lock back if it is held, so that another sidecar need not wait until it expires.

        Raises:
            RedisError: Redis refused it or cannot be reached.
        """
        if self._key:
            key, self._key = self._key, ""
            await client.eval(self._release_script, 1, key, self._token)
