"""A Redis and sidecars that can be killed and come back with everything they had acknowledged."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.servers import Server, Sidecar, free_port, start_redis, start_valkey
from trials.chaos.policy import GRACE_SECONDS, TTL_SECONDS

_START: dict[str, Callable[..., AbstractContextManager[Server]]] = {"redis": start_redis, "valkey": start_valkey}
SERVERS = tuple(_START)
# How many of the killer's strikes are at all sidecars at once, for longer than any task has to live.
_BLACKOUT_SHARE = 0.1


class DurableServer:
    """A Redis whose append-only file has everything it acknowledged, whole: it is never rewritten.

    Args:
        kind: `redis` or `valkey`.
        folder: where it keeps its file.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self.port = free_port()
        self._kind = kind
        self._folder = folder
        self._stack = ExitStack()
        folder.mkdir()

    @property
    def url(self) -> str:
        """Its URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, _queue: str = "") -> "Redis":
        """Return a connection to it, which does not try again: what comes late would be taken for something else."""
        return Redis(port=self.port, socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def start(self) -> None:
        """Start (again), and wait until it has read its file."""
        options = ("--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "always")
        never = ("--auto-aof-rewrite-percentage", "0")
        self._server = self._stack.enter_context(_START[self._kind](*options, *never, port=self.port))

    def kill(self) -> None:
        """Kill it without a warning."""
        self._server.process.kill()
        self._stack.close()

    def written(self) -> Iterator[bytes]:
        """Yield what it wrote to its append-only file, in order and in pieces."""
        names = sorted(self._folder.rglob("*.aof"))
        for path in (name for name in names if not name.name.endswith(".base.aof")):
            with path.open("rb") as file:
                while piece := file.read(1 << 20):
                    yield piece


class Killer(threading.Thread):
    """Kills sidecars and Redis at random and starts them again, until told to stop; then all of them are up.

    Args:
        server: the Redis.
        sidecars: by their names.
        pause_seconds: the mean time between two kills.
        seed: makes the choice of victims and times repeatable.
    """

    def __init__(self, server: DurableServer, sidecars: dict[str, Sidecar], *, pause_seconds: float, seed: int) -> None:
        super().__init__(name="killer", daemon=True)
        self.kills: Counter[str] = Counter()
        self.times: list[float] = []
        """When something was killed, or came back: seconds since the epoch."""
        self.fault: BaseException | None = None
        self._targets: dict[str, DurableServer | Sidecar] = {"redis": server, **sidecars}
        self._pause = pause_seconds
        self._random = random.Random(seed)
        self._over = threading.Event()

    def run(self) -> None:
        """Kill and revive."""
        try:
            while not self._over.wait(min(1 + self._random.expovariate(1 / (self._pause - 1)), 4 * self._pause)):
                names, dice = list(self._targets), self._random
                if dice.random() < _BLACKOUT_SHARE:
                    # Long enough for TTLs to fire: what that leaves behind is met by sidecars that have just started.
                    self._kill(names[1:], TTL_SECONDS + GRACE_SECONDS + 1)
                else:
                    self._kill(dice.sample(names, dice.choices((1, 2, 3), (8, 2, 1))[0]), 0)
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

    def _kill(self, names: list[str], seconds: float) -> None:
        self.times.append(time.time())
        for name in names:
            self._targets[name].kill()
            self.kills[name] += 1
        time.sleep(seconds)
        for name in names:
            time.sleep(self._random.uniform(0, 1.5))
            self._targets[name].start()
        self.times.append(time.time())
