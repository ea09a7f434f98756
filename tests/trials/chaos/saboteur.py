"""Does in Redis what other programs do there: keys of other types at Asynq's places, and queues that are not listed."""

import threading
from contextlib import suppress

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

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
        port: Redis's.
    """

    def __init__(self, port: int) -> None:
        super().__init__(name="saboteur", daemon=True)
        self.times = 0
        """How often all of it was done."""
        self._client = Redis(port=port, socket_timeout=5, retry=Retry(NoBackoff(), 0))
        self._over = threading.Event()

    def run(self) -> None:
        """Sabotage, as long as there is a Redis."""
        while not self._over.wait(_PAUSE_SECONDS):
            with suppress(RedisError, OSError):
                self._break()
                self._client.srem(_QUEUES, UNLISTED)
                self.times += 1

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self.join()
        self._client.sadd(_QUEUES, UNLISTED)
        self._client.close()

    def _break(self) -> None:
        """Put keys of the wrong types into a queue that is listed."""
        with self._client.pipeline(transaction=True) as pipeline:
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
            pipeline.sadd(_QUEUES, BROKEN)
            pipeline.execute()
