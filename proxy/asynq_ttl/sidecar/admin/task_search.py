"""Finds a task by its ID for the admin server: in the journal, in the decision log, and in Redis.

Invariants:

* Nothing here touches the data path: Redis and the disk are asked by threads, on connections of their own.
* Bounded: `_MOST_SEARCHES` at a time, and of a decision log the newest `_MOST_LOG_BYTES`.
* No payload, no credential, no argument of a command and no text of an error is in the answer.
"""

import asyncio
from dataclasses import replace
from urllib.parse import parse_qs

from asynq_ttl.existing_keys.why.account import Evidence, Json, account
from asynq_ttl.existing_keys.why.look import Look, look, not_looked
from asynq_ttl.existing_keys.why.past import merged
from asynq_ttl.net.secret_file import SecretFileError, read_secret
from asynq_ttl.sidecar.sidecar import Sidecar
from asynq_ttl.telemetry.log_search import search

_MOST_SEARCHES = 2
_MOST_LOG_BYTES = 128 << 20
_MOST_DATABASES = 8
_MOST_FIELDS = 10


class TaskSearch:
    """Searches for tasks.

    Args:
        sidecar: whose journal, decision log and Redis are asked.
    """

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._searches = 0

    async def answer(self, query: str) -> tuple[int, Json]:
        """Return all that is known of a task, and the status of the HTTP answer.

        Args:
            query: the query of the URL, percent-encoded: `id`, and `queue` and `redis=no` where they are wanted.
        """
        try:
            told = parse_qs(query, keep_blank_values=True, errors="surrogateescape", max_num_fields=_MOST_FIELDS)
        except ValueError:
            return 400, {"error": f"a question has at most {_MOST_FIELDS} fields"}
        task_id, queue = told.get("id", [""])[0], told.get("queue", [""])[0]
        if not task_id:
            return 400, {"error": "id= is missing: which task?"}
        if self._searches >= _MOST_SEARCHES:
            return 503, {"error": f"{_MOST_SEARCHES} tasks are searched for already: ask again in a moment"}
        self._searches += 1
        try:
            return 200, await self._search(task_id, queue, in_redis=told.get("redis") != ["no"])
        finally:
            self._searches -= 1

    async def _search(self, task_id: str, queue: str, *, in_redis: bool) -> Json:
        sidecar, identity = self._sidecar, task_id.encode("utf-8", "surrogateescape")
        noted, notes, whole = await asyncio.to_thread(self._in_log, task_id, queue)
        journal = sidecar.telemetry.recent.of_task(task_id, queue)
        notes.append("The journal of the sidecar was asked: its latest entries.")
        if not sidecar.telemetry.recent.task_ids:
            notes.append("It names no tasks: the sidecar runs with --hide-task-ids.")
        databases = sorted(sidecar.shared.databases)[:_MOST_DATABASES] if in_redis else []
        looks = await asyncio.to_thread(self._in_redis, databases, queue, identity)
        policy = sidecar.in_force.rewriter.reach.policy
        evidence = Evidence(
            identity,
            [found for each in looks for found in each.found],
            max((each.now for each in looks), default=0),
            merged(noted, journal),
            policy,
            [*(note for each in looks for note in each.notes), *notes],
            failed=not (whole and all(each.whole for each in looks)),
            looked_at=frozenset(queue for each in looks for queue in each.queues),
        )
        return account(evidence, error=False)

    def _in_log(self, task_id: str, queue: str) -> tuple[list[Json], list[str], bool]:
        """Return what the decision log says, how much that is worth, and whether it could be read."""
        log = self._sidecar.decision_log
        if log is None:
            return [], ["The sidecar writes no decision log (--decisions)."], True
        try:
            answer = search(log.path, task_id, queue, _MOST_LOG_BYTES)
        except OSError as error:
            return [], [f"The decision log {log.path} cannot be read: {error.strerror}."], False
        return answer.entries, answer.notes(str(log.path)), True

    def _in_redis(self, databases: list[int], queue: str, task_id: bytes) -> list[Look]:
        """Return what some databases have of a task."""
        upstream = self._sidecar.settings.upstream
        if upstream.password_file:
            try:
                upstream = replace(upstream, password=read_secret(upstream.password_file))
            except SecretFileError as error:
                return [not_looked(f"Redis could not be asked: the password file {error}.")]
        return [look(replace(upstream, database=number), queue, task_id) for number in databases]
