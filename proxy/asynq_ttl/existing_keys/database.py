"""A connection of the tools to one database: it runs our scripts, keeps to a rate, and explains errors in one line.

Invariants:

* Every command is short: what may be large is read in pages of at most `PAGE_TASKS` tasks and about `PAGE_BYTES` bytes.
* Scripts for many queues go out in one round trip, which has no more work in it than a page of one queue: a queue of
  one task costs what it has, not what a page might have.
* All keys of a script belong to one queue, so they share a hash tag and a cluster slot.
* What asks about a key goes by `ask`, `run_all` and the like, never by a client: `cluster.database` has many.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from asynq_ttl.asynq.keys import PREFIX, QUEUES, ambiguous, queue_of_key, text_of
from asynq_ttl.existing_keys.clients import DatabaseError, client_of, explained
from asynq_ttl.existing_keys.foreign_prefixes import Prefixes, find
from asynq_ttl.existing_keys.left_out import LeftOut
from asynq_ttl.existing_keys.needed_rights import ASYNQ_KEYS, READING, Need, attempt
from asynq_ttl.existing_keys.refused import Refused, probe_key, refused_of
from asynq_ttl.existing_keys.script_runs import Call, ScriptRuns
from asynq_ttl.net.address import Upstream
from asynq_ttl.net.server_version import is_unknown

PAGE_TASKS = 50
PAGE_BYTES = 1 << 19
_SCAN_COUNT = 1000

Cursor = int | str
"""Where a walk through all keys goes on: 0 at its beginning and at its end. A text is that of a cluster."""


class Pace:
    """Slows work down to a rate.

    Args:
        per_second: the most units a second; 0 for no limit.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._free_at = 0.0

    def spend(self, units: int) -> None:
        """Wait until so many more units may be done. Time in which nothing was done is not made up for."""
        if self._per_second <= 0:
            return
        now = time.monotonic()
        if self._free_at > now:
            time.sleep(self._free_at - now)
        self._free_at = max(self._free_at, now) + units / self._per_second


class Database:
    """A connection to one database.

    Args:
        upstream: the server and the number of the database.
        rate: the most keys read in a second; 0 for no limit.

    Raises:
        RedisError: no Sentinel says where the master is.
    """

    def __init__(self, upstream: Upstream, rate: float = 0) -> None:
        self.upstream = upstream
        self.pace = Pace(rate)
        self.left_out = LeftOut()
        """What could not be looked at so far, or must be left alone."""
        self._connect()

    def _connect(self) -> None:
        self.client: Redis = client_of(self.upstream, self.upstream.database)
        self._scripts = ScriptRuns(self.client)

    @property
    def servers(self) -> str:
        """Which servers of a cluster are changed, and in which of their runs; empty without a cluster."""
        return ""

    def open(self, *, changing: Need | None = None) -> list[str]:
        """Check that Asynq uses this database and the user has the rights; return the names of its queues, sorted.

        Args:
            changing: the rights that are needed besides, to change tasks; None for none.

        Raises:
            DatabaseError: it is not so.
        """
        with explained(self.upstream):
            self.begin()
            queues = self.queues()
            wanted = {*READING.commands, *(changing.commands if changing else ())}
            if not self.upstream.database:
                wanted.discard("SELECT")
            refused = self.refused(sorted(wanted), probe_key(queues))
            if refused:
                raise DatabaseError(f"{self.upstream}: {refused}: {refused.advice(ASYNQ_KEYS)}")
        return queues or []

    def queues(self) -> list[str] | None:
        """Return the names of the queues that Asynq lists, sorted, without those that are left alone.

        Where something else is in the place of the list, they are those that have keys; None where the user may not
        ask.

        Raises:
            DatabaseError: there are none.
        """
        try:
            members: Any = self.ask(QUEUES, "SMEMBERS")
        except ResponseError as error:
            if isinstance(error, NoPermissionError) or is_unknown(error):
                return None
            if "WRONGTYPE" not in str(error):
                raise
            self.left_out.add_wrong(QUEUES)
            members = None
        if members is None:
            members = self._queues_with_keys()
        names = sorted(text_of(member) for member in members)
        for name in filter(ambiguous, names):
            self.left_out.add_ambiguous(name)
        clear = [name for name in names if not ambiguous(name)]
        if not clear:
            nothing = f"{self.upstream} has no queue that can be looked at" if self.left_out else self._no_queues()
            raise DatabaseError("; ".join([nothing, *self.left_out.notes()]))
        return clear

    def refused(self, commands: Iterable[str], key: bytes) -> Refused:
        """Return which of some commands cannot be run on a key that does not exist; nothing is changed.

        Each is tried, on a connection that begins without SELECT, since that may be missing too.

        Args:
            commands: their names, as `needed_rights` has them.
            key: the key.
        """
        names, number = list(commands), self.upstream.database
        with client_of(self.upstream, 0) as client, client.pipeline(transaction=False) as pipeline:
            for name in ("SELECT", *names):
                pipeline.execute_command(*attempt(name, key, number))
            answers: list[Any] = pipeline.execute(raise_on_error=False)
        return refused_of(zip(names, answers[1:], strict=True))

    def now(self) -> int:
        """Return Redis's time in whole seconds since the epoch."""
        seconds, _ = self.client.time()
        return int(seconds)

    def ask(self, key: bytes, command: str, *arguments: bytes | str | int) -> Any:  # noqa: ANN401 - replies have any shape
        """Ask something about a key; None where its queue cannot be read now, as it may be in a cluster."""
        return self.client.execute_command(command, key, *arguments)

    def types_of(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return the types of some keys; `none` of one that is not there.

        Raises:
            RedisError: the user may not ask.
        """
        with self.client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.type(key)
            return checked(pipeline.execute(raise_on_error=False))

    def scan(self, cursor: Cursor, *, match: bytes, count: int) -> tuple[Cursor, list[bytes]]:
        """Take a step through all keys; return where to go on, and the keys.

        Args:
            cursor: where this step begins.
            match: the pattern of the keys.
            count: about how many are looked at.
        """
        answer: Any = self.client.scan(int(cursor), match=match, count=count)
        return int(answer[0]), list(answer[1])

    def holds(self, cursor: Cursor) -> bool:  # noqa: ARG002 - who resumes checks that the server is the same
        """Say whether a walk can go on here, and its part need not be walked through anew."""
        return True

    def begins_part(self, cursor: Cursor) -> bool:
        """Say whether a cursor is at the beginning of a part of the walk: what `holds` has said no of begins there."""
        return not cursor

    def run_all(self, name: str, calls: Sequence[Call]) -> list[Any]:
        """Run a script several times in one round trip; return what it replies, in that order.

        Args:
            name, calls: as `ScriptRuns.replies` has them.

        Raises:
            RedisError: one of the runs has failed.
        """
        return checked(self._scripts.replies(name, calls))

    def server(self) -> "Server":
        """Ask the server what it is; where the user may not ask, version and run are empty."""
        info = self.info("server")
        product = "Valkey" if "valkey_version" in info else "Redis"
        return Server(product, info.get(f"{product.lower()}_version", ""), info.get("run_id", ""))

    def info(self, section: str) -> dict[str, Any]:
        """Return a section of INFO; nothing where the user may not ask."""
        try:
            return dict(self.client.info(section))
        except ResponseError:
            return {}

    def size(self) -> int | None:
        """Return how many keys there are; None where the user may not ask."""
        try:
            return int(self.client.dbsize())
        except ResponseError:
            return None

    def memory_usage(self, keys: list[bytes], samples: int) -> list[int | None]:
        """Return how many bytes each key takes; None for one that is not there, or where the user may not ask.

        Args:
            keys: the keys.
            samples: how many elements of each are looked at; 0 for all.
        """
        with self.client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.memory_usage(key, samples=samples)
            answers: list[Any] = pipeline.execute(raise_on_error=False)
        return [answer if isinstance(answer, int) else None for answer in answers]

    def foreign_prefixes(self) -> Prefixes:
        """Look for tasks of forks.

        Raises:
            ResponseError: the user may not SCAN.
        """
        return find(self.client, self.pace.spend)

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def begin(self) -> None:
        """Check that the server is what the URL says.

        Raises:
            DatabaseError: it is a node of a cluster.
        """
        if self._is_cluster_node():
            raise DatabaseError(
                f"{self.upstream} is a node of a cluster: it shows the keys of its own slots alone, so nothing that is "
                f"said or done here would be whole; give the URL of the cluster, redis+cluster://{self.upstream.address}"
            )

    def _is_cluster_node(self) -> bool:
        """Say whether the server is a node of a cluster; a user who may ask it by no way is believed to use none."""
        info = self.info("server")
        if info:
            return bool((info.get("redis_mode") or info.get("server_mode")) == "cluster")
        try:
            self.client.execute_command("CLUSTER INFO")
        except ResponseError:
            return False
        return True

    def _queues_with_keys(self) -> set[bytes]:
        """Return the names of the queues that have keys."""
        names, cursor = set[str](), None
        while cursor != 0:
            cursor, keys = self.scan(cursor or 0, match=PREFIX + b"*", count=_SCAN_COUNT)
            names.update(queue for key in keys if (queue := queue_of_key(key)) is not None)
        return {name.encode("utf-8", "surrogateescape") for name in names}

    def _no_queues(self) -> str:
        """Return, in words, that there is nothing of Asynq here, and in which databases there are keys."""
        keyspace = self.info("keyspace")
        here = f"db{self.upstream.database}"
        others = ", ".join(sorted(name for name in keyspace if name != here))
        hint = f"; there are keys in {others}" if others else ", and Asynq adds it with the first task"
        return f"{self.upstream} is no Asynq database: the set asynq:queues is not there{hint}{self._of_forks()}"

    def _of_forks(self) -> str:
        """Return, in words, which prefixes of forks there are; nothing where there are none or the user may not ask."""
        try:
            prefixes = self.foreign_prefixes().seen
        except ResponseError:
            return ""
        told = "; there are tasks of a fork of Asynq whose keys begin with {}, which are not handled"
        return told.format(", ".join(prefixes)) if prefixes else ""


def checked(replies: list[Any]) -> list[Any]:
    """Return replies, of which none is an error.

    Raises:
        RedisError: the first error among them.
    """
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


@dataclass(frozen=True, slots=True)
class Server:
    """A server: `Redis` or `Valkey`, its version, and the ID of its run."""

    product: str
    version: str
    run_id: str

    @property
    def name(self) -> str:
        """Product and version."""
        return f"{self.product} {self.version or 'of unknown version'}"
