"""What became of the tasks that an inspector has moved all at once: how many got which action, and some of their IDs.

The reply to a bulk operation is how many tasks it has moved, and it is the client's. So the tasks are looked at in
Redis just after it, on a connection of the sidecar's own: nothing is added to the command or to its reply.

* Archived tasks are those whose score is the time of death that the command gave: what has a TTL got one from the
  wrapper, what has none is kept for ever. The others are `gone`: the wrapper has removed them, by a rule or the cap, or
  they were run or deleted again within these milliseconds.
* Of tasks that were run again the wrapper has taken every TTL off. They are at the head of `pending`, and unlike
  enqueued ones they have no `pending_since`.
* What was deleted is gone.

Invariants:

* What cannot be told is not told: where Redis does not answer in a second, or other tasks of the queue died in the
  same second, no action is named. No task is named that the operation did not move.
* Bounded: a second, and so many operations at a time. Labels are counted together past a limit.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from asynq_ttl.asynq.keys import index_key, printable, task_prefix, text_of
from asynq_ttl.events import Action, Actions, Outcome
from asynq_ttl.lua.loader import load
from asynq_ttl.telemetry.finished_span import MAX_IDS

_log = logging.getLogger("asynq_ttl")

BULK_TASKS = "Tasks that were moved or deleted all at once by hand, by what became of them."
BULK_LABELS = ("asynq.queue", "asynq.task.state", "asynq_ttl.action")
_OVERFLOW = "other"

_LOOK = load("wrappers/clock.prologue", "telemetry/archived_in_bulk")
# How many archived tasks are looked at in one step, and how many of the pending ones are read.
_STEP, _PAGE = 1_000, 100
_SECONDS = 1.0
# Operations that are looked into at the same time; of those beyond them no IDs are known.
_MAX_SEARCHES = 4
# What the reply alone says.
_SAID = {"run": Action.PERSIST.value, "delete": Action.DELETE.value}
_GONE = "gone"


class OpenRedis(Protocol):
    """Opens a client of the real Redis, which connects when it is first used."""

    def __call__(self, database: int, *, max_connections: int, client_name: str) -> Redis:
        """Return a client.

        Args:
            database: the number of the database.
            max_connections: how many connections it may have.
            client_name: what Redis is told that they are called.
        """


class BulkOperations:
    """Finds out what bulk operations have done, counts and logs it.

    Args:
        open_redis: opens a client of the real Redis; None where nothing can be asked.
        most: how many sets of labels are told apart.

    Attributes:
        tasks: how many tasks, by the values of `BULK_LABELS`.
    """

    def __init__(self, open_redis: OpenRedis | None, most: int) -> None:
        self.tasks: Counter[tuple[str, str, str]] = Counter()
        self._open_redis = open_redis
        self._most = most
        self._searches: set[asyncio.Task[None]] = set()

    def find(
        self,
        outcome: Outcome,
        answer: Callable[[Outcome, Sequence[str]], None],
        open_redis: OpenRedis | None = None,
    ) -> None:
        """Call `answer` with the outcome and some of the IDs, now or at most a second later.

        The outcome then says how many tasks got which action, where that is known. The tasks are at `open_redis`, where
        that is another server than usual: a node of a cluster.
        """
        decision, open_redis = outcome.decision, open_redis or self._open_redis
        said = _SAID.get(decision.operation)
        if said is not None and decision.enforced:
            outcome = self._told(outcome, ((said, outcome.moved or 0),))
        if open_redis is None or decision.operation == "delete" or len(self._searches) >= _MAX_SEARCHES:
            answer(outcome, ())
            return
        search = asyncio.get_running_loop().create_task(self._find(outcome, answer, open_redis))
        self._searches.add(search)
        search.add_done_callback(self._searches.discard)

    async def close(self) -> None:
        """Wait for the searches under way, which are over in a second."""
        if self._searches:
            await asyncio.wait(self._searches, timeout=_SECONDS)

    async def _find(
        self, outcome: Outcome, answer: Callable[[Outcome, Sequence[str]], None], open_redis: OpenRedis
    ) -> None:
        found: Sequence[str] = ()
        actions: Actions = ()
        client = open_redis(outcome.database, max_connections=1, client_name="asynq-ttl-bulk")
        try:
            async with asyncio.timeout(_SECONDS):
                if outcome.decision.died_at is not None:
                    found, actions = await _archived(client, outcome, outcome.decision.died_at)
                else:
                    found = await _run(client, outcome.decision.queue)
        except (RedisError, OSError, TimeoutError):
            found = ()  # to tell of it without IDs is better than not to
        finally:
            answer(self._told(outcome, actions) if actions and outcome.decision.enforced else outcome, found)
            await asyncio.shield(client.aclose())

    def _told(self, outcome: Outcome, actions: Actions) -> Outcome:
        """Count and log what tasks got; return the outcome that says it."""
        decision = outcome.decision
        for action, count in actions:
            key = (decision.queue, decision.state, action)
            if key not in self.tasks and len(self.tasks) >= self._most:
                key = (_OVERFLOW, decision.state, action)
            self.tasks[key] += count
        words = ", ".join(f"{count} {action}" for action, count in actions)
        queue = printable(decision.queue)
        _log.info("by hand, %s in queue %s: %s tasks (%s)", decision.operation, queue, outcome.moved, words)
        return outcome._replace(actions=actions)


async def _archived(client: Redis, outcome: Outcome, died_at: int) -> tuple[Sequence[str], Actions]:
    """Return some of the tasks that were archived, and how many of all of them got which action."""
    queue, moved = outcome.decision.queue, outcome.moved or 0
    key, prefix = index_key(queue, "archived"), task_prefix(queue)
    named: list[str] = []
    looked_at = timed = untimed = 0
    while True:
        page: Any = await client.eval(_LOOK, 1, key, prefix, died_at, looked_at, _STEP, MAX_IDS - len(named))
        looked_at += page[0]
        timed += page[1]
        untimed += page[2]
        named += [text_of(member) for member in page[3]]
        # With more of them than were moved, nobody knows which are which.
        if page[0] < _STEP or timed + untimed > moved:
            break
    gone = moved - timed - untimed
    if gone < 0:
        return (), ()
    counts = ((Action.TTL.value, timed), (Action.NONE.value, untimed), (_GONE, gone))
    return named, tuple((action, count) for action, count in counts if count)


async def _run(client: Redis, queue: str) -> Sequence[str]:
    """Return some of the tasks that were run again."""
    pending: Any = await client.lrange(index_key(queue, "pending"), 0, _PAGE - 1)
    async with client.pipeline(transaction=False) as pipeline:
        for task_id in pending:
            pipeline.hmget(task_prefix(queue) + task_id, "state", "pending_since")
        fields = await pipeline.execute()
    run = (
        text_of(one) for one, (state, since) in zip(pending, fields, strict=True) if state == b"pending" and not since
    )
    return list(islice(run, MAX_IDS))
