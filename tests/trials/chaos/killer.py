"""Kills sidecars and Redis at random, and a Redis that comes back with everything it had acknowledged."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.servers import Server, Sidecar, free_port, start_redis, start_valkey
from trials.chaos import history
from trials.chaos.history import History
from trials.chaos.policy import GRACE_SECONDS, QUEUES, TTL_SECONDS

_START: dict[str, Callable[..., AbstractContextManager[Server]]] = {"redis": start_redis, "valkey": start_valkey}
SERVERS = tuple(_START)
# How many of the killer's strikes are at all sidecars at once, for longer than any task has to live.
_BLACKOUT_SHARE = 0.1

# On a busy machine the chaos itself takes most of the time.
_START_SECONDS = 180

Strike = Callable[[random.Random], AbstractContextManager[None]]
"""Strikes at something when the block begins, and has it up again when it is over."""


class Durable(Protocol):
    """A Redis, or a cluster, that loses nothing it has acknowledged."""

    @property
    def url(self) -> str:
        """Where sidecars and tools find it."""

    @property
    def clocks(self) -> dict[str, str]:
        """The keys that hold the time, each with a queue beside which it is."""

    @property
    def strikes(self) -> dict[str, Strike]:
        """What can be done to it, by name."""

    def start(self) -> None:
        """Start it."""

    def end(self) -> None:
        """End it."""

    def client(self, place: str) -> "Redis":
        """Return a connection to where a queue, or another key, is now; it is shared, and does not try again."""

    def steady(self, queue: str) -> AbstractContextManager[bool]:
        """Keep a queue where it is, unless it is on its way: that is what the block is told."""

    def history(self) -> History:
        """Return what became of every task."""


class DurableServer:
    """A Redis whose append-only file has everything it acknowledged, whole: it is never rewritten.

    Args:
        kind: `redis` or `valkey`.
        folder: where it keeps its file.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        self.clocks = {QUEUES[0]: history.CLOCK_KEY.decode()}
        self.strikes: dict[str, Strike] = {"redis": self.crashed}
        self._port = port
        self._kind = kind
        self._folder = folder
        self._stack = ExitStack()
        self._client = Redis(port=port, socket_timeout=5, retry=Retry(NoBackoff(), 0))
        folder.mkdir()

    def client(self, _place: str) -> "Redis":
        """Return a connection to it."""
        return self._client

    @contextmanager
    def steady(self, _queue: str) -> Iterator[bool]:
        """Say that a queue is where it is."""
        yield True

    def start(self) -> None:
        """Start (again), and wait until it has read its file."""
        options = ("--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "always")
        never = ("--auto-aof-rewrite-percentage", "0")
        self._server = self._stack.enter_context(_START[self._kind](*options, *never, port=self._port))

    def end(self) -> None:
        """End it."""
        self._client.close()
        self._kill()

    @contextmanager
    def crashed(self, _dice: random.Random) -> Iterator[None]:
        """Kill it without a warning; it is back when the block is over."""
        self._kill()
        yield
        self.start()

    def history(self) -> History:
        """Return what became of every task."""
        return history.read(history.steps_of(self._written()))

    def _kill(self) -> None:
        self._server.process.kill()
        self._stack.close()

    def _written(self) -> Iterator[bytes]:
        """Yield what it wrote to its append-only file, in order and in pieces."""
        names = sorted(self._folder.rglob("*.aof"))
        for path in (name for name in names if not name.name.endswith(".base.aof")):
            yield from history.pieces_of(path)


class Killer(threading.Thread):
    """Strikes at sidecars and Redis at random, until told to stop; then all of them are up.

    Args:
        server: the Redis, at which there is one strike at a time.
        sidecars: by their names.
        pause_seconds: the mean time between two strikes.
        seed: makes the choice of strikes and times repeatable.
    """

    def __init__(self, server: Durable, sidecars: dict[str, Sidecar], *, pause_seconds: float, seed: int) -> None:
        super().__init__(name="killer", daemon=True)
        self.kills: Counter[str] = Counter()
        self.times: list[float] = []
        """When there was a strike, or what was struck came back: seconds since the epoch."""
        self.fault: BaseException | None = None
        self._server = server
        self._sidecars: dict[str, Strike] = {name: _killing(sidecar) for name, sidecar in sidecars.items()}
        self._pause = pause_seconds
        self._random = random.Random(seed)
        self._over = threading.Event()

    def run(self) -> None:
        """Kill and revive."""
        try:
            while not self._over.wait(min(1 + self._random.expovariate(1 / (self._pause - 1)), 4 * self._pause)):
                if self._random.random() < _BLACKOUT_SHARE:
                    # Long enough for TTLs to fire: what that leaves behind is met by sidecars that have just started.
                    self._strike(self._sidecars, TTL_SECONDS + GRACE_SECONDS + 1)
                else:
                    self._strike(self._drawn(), 0)
        except BaseException as error:  # noqa: BLE001 - reported by `stop`
            self.fault = error

    def stop(self) -> None:
        """End it.

        Raises:
            RuntimeError: something did not come up again.
        """
        self._over.set()
        self.join()
        if self.fault is not None:
            raise RuntimeError(f"the killer failed: {self.fault!r}") from self.fault

    def _drawn(self) -> dict[str, Strike]:
        """Draw what is struck: mostly one thing, now and then several at once."""
        dice = self._random
        name, strike = dice.choice(list(self._server.strikes.items()))
        targets = [(name, strike), *self._sidecars.items()]
        # A cluster has more that can be done to it, each of them no less often than a sidecar is killed.
        weights = [len(self._server.strikes)] + [1] * len(self._sidecars)
        count = dice.choices((1, 2, 3), (8, 2, 1))[0]
        if count == 1:
            return dict(dice.choices(targets, weights))
        return dict(dice.sample(targets, count))

    def _strike(self, strikes: dict[str, Strike], seconds: float) -> None:
        with ExitStack() as stack:
            self.times.append(time.time())
            for name, strike in strikes.items():
                stack.enter_context(strike(self._random))
                stack.callback(time.sleep, self._random.uniform(0, 1.5))
                self.kills[name] += 1
            self.times.append(time.time())
            time.sleep(seconds)
        self.times.append(time.time())


def _killing(sidecar: Sidecar) -> Strike:
    """Return the strike that kills a sidecar without a warning."""

    @contextmanager
    def killed(_dice: random.Random) -> Iterator[None]:
        sidecar.kill()
        yield
        sidecar.start(_START_SECONDS)

    return killed
