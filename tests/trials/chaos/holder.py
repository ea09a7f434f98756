"""Holds ended tasks with `asynq-ttl hold`, and releases some, as an operator does who still has to look at them.

What is held in the vault, where operators change nothing, has to be there at the end. Only there are tasks released: a
task that somebody archives while it is held has no TTL when it is released. And only completed ones are, for whom a
janitor comes at once: when an archived one is released whose time is over, it has a minute left.
"""

import random
import threading
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from asynq_ttl.asynq.hold import HELD_SCORE
from support.commands import run
from trials.chaos.killer import Durable
from trials.chaos.policy import OPERATED, TERMINAL, VAULT

_PAUSE_SECONDS = 0.5
_TASKS_AT_ONCE = 3
_RELEASE_SHARE = 0.2
# Of the rounds, so many are in the vault.
_VAULT_SHARE = 0.6


class Holder(threading.Thread):
    """Holds tasks until told to stop.

    Args:
        server: where.
        seed: makes the choices repeatable.
    """

    def __init__(self, server: Durable, seed: int) -> None:
        super().__init__(name="holder", daemon=True)
        self.kept: set[str] = set()
        """Those of the vault of which it was said that they are held, and which it did not try to release."""
        self.held = 0
        self.released = 0
        self._server = server
        self._random = random.Random(seed)
        self._over = threading.Event()

    def run(self) -> None:
        """Hold and release."""
        while not self._over.wait(_PAUSE_SECONDS):
            queue = VAULT if self._random.random() < _VAULT_SHARE else self._random.choice(OPERATED)
            with suppress(RedisError, OSError):
                self._hold(queue, *self._found(queue))
            with suppress(RedisError, OSError):
                if self._random.random() < _RELEASE_SHARE:
                    self._release(*self._found(VAULT, HELD_SCORE))

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self.join()

    def _found(self, queue: str, score: int | None = None) -> list[str]:
        """Return some of the ended tasks that are not held; with a score, some of the completed ones that are."""
        least, most = (0, f"({HELD_SCORE}") if score is None else (score, score)
        found: list[Any] = []
        for state in TERMINAL if score is None else ("completed",):
            found += self._server.client(queue).zrangebyscore(f"asynq:{{{queue}}}:{state}", least, most)
        return [name.decode() for name in self._random.sample(found, min(len(found), _TASKS_AT_ONCE))]

    def _hold(self, queue: str, *names: str) -> None:
        held = self._told("hold", queue, names, ("held", "is held already"))
        self.held += len(held)
        if queue == VAULT:
            self.kept |= held

    def _release(self, *names: str) -> None:
        self.kept -= set(names)
        self.released += len(self._told("release", VAULT, names, ("released",)))

    def _told(self, command: str, queue: str, names: tuple[str, ...], words: tuple[str, ...]) -> set[str]:
        """Run the command; return the tasks of which it said that it was done. It may fail as long as Redis is away."""
        if not names:
            return set()
        ran = run(command, queue, *names, "--upstream", self._server.url)
        lines = (line.partition("  ") for line in ran.stdout.splitlines())
        return {name for name, _, said in lines if said.startswith(words)}
