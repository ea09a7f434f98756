"""Does in Redis what other programs do there: keys of other types at Asynq's places, and queues that are not listed."""

import threading
from contextlib import suppress

from redis.exceptions import RedisError

from trials.chaos.killer import Durable
from trials.chaos.policy import UNLISTED

_PAUSE_SECONDS = 0.5
_QUEUES = "asynq:queues"
# What stands where in a queue of its own, which sorts before the others; each is of another type than Asynq's.
BROKEN = "a-broken"
_KINDS = {
    "list": ("completed", "archived", "lease", "retry"),
    "hash": ("active", "pending"),
    "set": ("scheduled", "deadlines"),
}


class Saboteur(threading.Thread):
    """Sabotages until told to stop; then all queues are listed, and the broken one is there still.

    Args:
        server: where.
    """

    def __init__(self, server: Durable) -> None:
        super().__init__(name="saboteur", daemon=True)
        self.times = 0
        """How often all of it was done."""
        self._server = server
        self._over = threading.Event()

    def run(self) -> None:
        """Sabotage, as long as there is a Redis."""
        while not self._over.wait(_PAUSE_SECONDS):
            with suppress(RedisError, OSError):
                self._break()
                self._server.client(_QUEUES).srem(_QUEUES, UNLISTED)
                self.times += 1

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self.join()
        self._server.client(_QUEUES).sadd(_QUEUES, UNLISTED)

    def _break(self) -> None:
        """Put keys of the wrong types into a queue that is listed."""
        with self._server.client(BROKEN).pipeline(transaction=True) as pipeline:
            for kind, places in _KINDS.items():
                for place in places:
                    key = f"asynq:{{{BROKEN}}}:{place}"
                    pipeline.delete(key)
                    if kind == "list":
                        pipeline.rpush(key, "x")
                    elif kind == "hash":
                        pipeline.hset(key, "x", "x")
                    else:
                        pipeline.sadd(key, "x")
            pipeline.execute()
        self._server.client(_QUEUES).sadd(_QUEUES, BROKEN)
