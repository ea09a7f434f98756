"""A queue that is watched while clients move its tasks: which state each is in, and whether it has its TTL yet."""

import enum
import logging
import time
from dataclasses import dataclass
from typing import Any

from support.servers import Server, wait_until

_log = logging.getLogger(__name__)

POLICY = """
version: 1
grace: 30s
rules:
  - {name: noise, match: {type: "*:noise"}, archived: {ttl: 10m}, completed: {ttl: 20m}}
  - {name: all, archived: {ttl: 1h}, completed: {ttl: 2h}}
"""
GRACE = 30
SECONDS = {"archived": 3600, "completed": 7200}
"""How long the rule `all` keeps a task, by its state."""
NOISE_SECONDS = {"archived": 600, "completed": 1200}
"""The same of the rule `noise`, which asks for the type in the message."""

# The tasks of a queue at one moment: ID, state, TTL. ARGV: the prefix of the queue's keys.
_LOOK = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. 't:*')) do
  found[#found + 1] = {string.sub(key, #ARGV[1] + 3), redis.call('HGET', key, 'state') or '', redis.call('TTL', key)}
end
return found
"""
# A completed task is adopted within a minute; the rest is for a machine that is busy.
_SECONDS, _SWEPT_SECONDS = 60.0, 120.0
# A TTL that a task gets while the machine is busy may be this much shorter when it is looked at.
_PASSED = 60


class Promise(enum.Enum):
    """When an ended task has its TTL, and one that lives again has none."""

    NEVER = "there is no sidecar"
    AT_ONCE = "never seen otherwise"
    SWEPT = "when the sweeper has come by"


@dataclass(frozen=True, slots=True)
class Seen:
    """A task at one moment: its state, and its TTL in seconds, -1 without one."""

    state: str
    ttl: int

    @property
    def ended(self) -> bool:
        """Whether its state is terminal."""
        return self.state in SECONDS

    @property
    def settled(self) -> bool:
        """Whether it has a TTL just if it has ended."""
        return (self.ttl >= 0) == self.ended


class Watch:
    """One queue of a server, seen past any sidecar."""

    def __init__(self, server: Server, promise: Promise, queue: str = "default") -> None:
        self._client = server.client()
        self._promise = promise
        self._prefix = f"asynq:{{{queue}}}:"

    def tasks(self) -> dict[str, Seen]:
        """Return all tasks by their IDs, as they are at one moment."""
        reply: Any = self._client.eval(_LOOK, 0, self._prefix)
        return {name.decode(): Seen(state.decode(), ttl) for name, state, ttl in reply}

    def reach(self, states: dict[str, str], noise: tuple[str, ...] = ()) -> None:
        """Wait until exactly these tasks are in these states, with the TTLs of the policy.

        Args:
            states: the state of each task by its ID.
            noise: the tasks for which the rule `noise` decides.
        """
        promise, began, ended = self._promise, time.monotonic(), None

        def reached() -> bool:
            nonlocal ended
            tasks = self.tasks()
            if promise is Promise.AT_ONCE:
                unsettled = {name: task for name, task in tasks.items() if not task.settled}
                assert not unsettled, unsettled
            if {name: task.state for name, task in tasks.items()} != states:
                return False
            ended = ended or time.monotonic()
            return promise is Promise.NEVER or all(task.settled for task in tasks.values())

        try:
            wait_until(reached, "not reached", _SWEPT_SECONDS if promise is Promise.SWEPT else _SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.tasks()} should be {states}, TTLs {promise.value}") from None
        assert ended is not None
        _log.info("%s after %.1f s, settled %.1f s later", states, ended - began, time.monotonic() - ended)
        self._check(noise)

    def _check(self, noise: tuple[str, ...]) -> None:
        """Assert that TTLs are those of the policy, and that both indexes name just the tasks in their state."""
        tasks = self.tasks()
        for name, task in tasks.items():
            if task.ended and task.ttl >= 0:
                retention = (NOISE_SECONDS if name in noise else SECONDS)[task.state]
                assert retention + GRACE - _PASSED <= task.ttl <= retention + GRACE, (name, task)
        for state in SECONDS:
            if self._client.type(self._prefix + state) in {b"zset", b"none"}:
                members: Any = self._client.zrange(self._prefix + state, 0, -1)
                entries = {name.decode() for name in members}
                assert entries == {name for name, task in tasks.items() if task.state == state}, state
