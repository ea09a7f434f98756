"""A cluster, as one database of the tools: each queue is asked at the master of its slot.

Invariants:

* No redirection is followed; redis-py's `RedisCluster` follows ASK, so it is of no use here. A queue whose slot is on
  its way to another node, or has gone there meanwhile, is left out and named: at the node that it goes to, a task that
  has not come yet would look like one that is gone.
* A master that cannot be read is named once, and the others are asked on. What it has looks as if it was not there.
* A script at a node whose slot is on its way fails where it meets a key that has gone: so nothing is done by halves.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from redis.exceptions import AskError, ResponseError, TryAgainError

from asynq_ttl.asynq.keys import queue_prefix
from asynq_ttl.existing_keys.clients import node_client
from asynq_ttl.existing_keys.cluster.keyspace import Keyspace, begins_part, named
from asynq_ttl.existing_keys.cluster.masters import GIVEN_UP, Master, Masters
from asynq_ttl.existing_keys.database import Cursor, Database, Server, checked
from asynq_ttl.existing_keys.foreign_prefixes import Prefixes, find, together
from asynq_ttl.existing_keys.needed_rights import attempt
from asynq_ttl.existing_keys.refused import Refused, refused_of
from asynq_ttl.existing_keys.script_runs import Call
from asynq_ttl.net.address import Upstream
from asynq_ttl.wire.cluster.slots import slot_of

Item = TypeVar("Item")
# What each script replies where there is nothing, from its KEYS[1] and ARGV.
_NOTHING: dict[str, Callable[[Call], Any]] = {
    "shared/read_tasks": lambda call: [[] for _ in call[4:]],
    "existing_keys/read_index": lambda _: [],
    "existing_keys/find_task": lambda _: [[], [None] * 6, [0] * 4, [b"", -2, b""], b"none", []],
    "existing_keys/queue_places": lambda call: [b"none", 0] * (len(call) - 2),
    "existing_keys/check_list": lambda _: [[], []],
    "existing_keys/check_index": lambda _: [0, b"", b""],
    "existing_keys/hold_tasks": lambda call: [b"elsewhere"] * (len(call) - 2),
    "existing_keys/release_tasks": lambda call: [0] * ((len(call) - 3) // 5),
    "existing_keys/read_history": lambda _: [b"none", -2, b""],
    "existing_keys/change_history": lambda _: 0,
    "existing_keys/change_tasks": lambda call: [0] * ((len(call) - 2) // 9),
}


class ClusterDatabase(Database):
    """The database of a cluster; as `Database`."""

    def _connect(self) -> None:
        self.masters = Masters(self.upstream, self.left_out.add_unread)
        self._keyspace = Keyspace(self.masters, self.left_out)

    @property
    def servers(self) -> str:
        """Which masters are changed, and in which of their runs."""
        return " ".join(f"{master.id}:{master.run}" for master in self.masters.all)

    def begin(self) -> None:
        """Find the masters."""
        self.masters.find()

    def queues(self) -> list[str] | None:
        """Return the names of the queues, as `Database` does, without those whose slots are not settled."""
        if not self.masters.all:
            self.begin()
        queues = super().queues()
        if queues is None:
            return None
        self._keyspace.know(queues)
        return [queue for queue in queues if not self._is_moving(queue_prefix(queue))]

    def refused(self, commands: Iterable[str], key: bytes) -> Refused:
        """Return which of some commands cannot be run at one of the masters."""
        names = list(commands)
        refused = []
        for master in self.masters.readable():
            answers = self.masters.at(master, lambda: _attempts(self, master, names, key))  # noqa: B023 - at once
            refused.append(refused_of(zip(names, answers or [], strict=False)))
        return Refused(
            tuple(name for name in names if any(name in each.denied for each in refused)),
            tuple(name for name in names if any(name in each.unknown for each in refused)),
            keys=any(each.keys for each in refused),
        )

    def now(self) -> int:
        """Return the time of one of the masters."""
        seconds, _ = self._first(lambda master: master.client.time())
        return int(seconds)

    def ask(self, key: bytes, command: str, *arguments: bytes | str | int) -> Any:  # noqa: ANN401 - replies have any shape
        """Ask the master of a key's slot."""
        (reply,) = self._spread([key], lambda each: each, lambda master, _: [
            _caught(lambda: master.client.execute_command(command, key, *arguments))
        ])  # fmt: skip
        return reply

    def types_of(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return the types of keys; of one that cannot be read `none`."""

        def work(master: Master, some: list[bytes]) -> list[Any]:
            with master.client.pipeline(transaction=False) as pipeline:
                for key in some:
                    pipeline.type(key)
                return list(pipeline.execute(raise_on_error=False))

        return [b"none" if kind is None else kind for kind in self._spread(keys, lambda key: key, work)]

    def memory_usage(self, keys: list[bytes], samples: int) -> list[int | None]:
        """Return how many bytes each key takes."""

        def work(master: Master, some: list[bytes]) -> list[Any]:
            with master.client.pipeline(transaction=False) as pipeline:
                for key in some:
                    pipeline.memory_usage(key, samples=samples)
                answers: list[Any] = pipeline.execute(raise_on_error=False)
            return [answer if isinstance(answer, int) else None for answer in answers]

        return self._spread(keys, lambda key: key, work)

    def run_all(self, name: str, calls: Sequence[Call]) -> list[Any]:
        """Run a script several times, in one round trip to each master."""
        replies = self._spread(calls, _key_of, lambda master, some: master.scripts.replies(name, some))
        return [_NOTHING[name](call) if reply is None else reply for call, reply in zip(calls, replies, strict=True)]

    def server(self) -> Server:
        """Ask one of the masters what it is. It has no run: a cursor names that of its node."""
        info = self._first(lambda master: _info(master, "server"))
        product = "Valkey" if "valkey_version" in info else "Redis"
        return Server(
            f"cluster of {len(self.masters.all)} masters, {product}", info.get(f"{product.lower()}_version", ""), ""
        )

    def info(self, section: str) -> dict[str, Any]:  # noqa: ARG002 - each node has its own
        """Return nothing: each node has its own."""
        return {}

    def size(self) -> int | None:
        """Return how many keys all masters have."""
        total = 0
        for master in self.masters.readable():
            with suppress(ResponseError):
                total += self.masters.at(master, master.client.dbsize) or 0
        return total or None

    def foreign_prefixes(self) -> Prefixes:
        """Look for tasks of forks at each master."""
        found = [
            self.masters.at(master, lambda: find(master.client, self.pace.spend))  # noqa: B023 - at once
            for master in self.masters.readable()
        ]
        return together([each for each in found if each is not None])

    def close(self) -> None:
        """Close the connections."""
        self.masters.close()

    def scan(self, cursor: Cursor, *, match: bytes, count: int) -> tuple[Cursor, list[bytes]]:
        """Take a step through the keys of one master; only those of slots that are settled count."""
        return self._keyspace.scan(cursor, match=match, count=count)

    def holds(self, cursor: Cursor) -> bool:
        """Say whether a walk can go on at a cursor: the node that gave it still is what it was, or none has begun."""
        return self._keyspace.holds(cursor)

    def begins_part(self, cursor: Cursor) -> bool:
        """Say whether a cursor is at the beginning of what one master has."""
        return begins_part(cursor)

    def _spread(
        self,
        items: Sequence[Item],
        key_of: Callable[[Item], bytes],
        work: Callable[[Master, list[Item]], list[Any]],
    ) -> list[Any]:
        """Return what is replied to each item, at the master of its key's slot; None where that cannot be read.

        Raises:
            RedisError: a master refuses one.
        """
        replies: list[Any] = [None] * len(items)
        places: dict[Master, list[int]] = {}
        for number, item in enumerate(items):
            master = self.masters.owner(slot_of(key_of(item)))
            if master is not None and not master.fault and not self._is_moving(key_of(item)):
                places.setdefault(master, []).append(number)
        for master, numbers in places.items():
            some = [items[number] for number in numbers]
            found = self.masters.at(master, lambda: work(master, some))  # noqa: B023 - at once
            for number, reply in zip(numbers, found or [], strict=False):
                replies[number] = self._settled_reply(master, key_of(items[number]), reply)
        return checked(replies)

    def _settled_reply(self, master: Master, key: bytes, reply: Any) -> Any:  # noqa: ANN401 - replies have any shape
        """Return a reply; None in place of an error that says that the key, or its master, cannot be read now."""
        if isinstance(reply, GIVEN_UP):
            self.masters.give_up(master, reply)
            return None
        if _is_elsewhere(reply):
            self.left_out.add_moving(named(key))
            return None
        return reply

    def _is_moving(self, key: bytes) -> bool:
        """Say whether the slot of a key is not settled at a master that can be read; name its queue then.

        A queue that was named once stays left alone: what was read of it may be a part.
        """
        slot = slot_of(key)
        master = self.masters.owner(slot)
        if named(key) in self.left_out.moving_names:
            return True
        moving = master is not None and not master.fault and slot not in master.settled
        if moving:
            self.left_out.add_moving(named(key))
        return moving

    def _first(self, work: Callable[[Master], Any]) -> Any:  # noqa: ANN401 - replies have any shape
        """Return what the first master says that can be read.

        Raises:
            ConnectionError: none can.
        """
        for master in self.masters.readable():
            reply = self.masters.at(master, lambda: work(master))  # noqa: B023 - at once
            if reply is not None:
                return reply
        raise GIVEN_UP[0]("none of the masters can be read: " + "; ".join(self.left_out.unread))


def database_of(upstream: Upstream, rate: float = 0) -> Database:
    """Return the database of a URL, of one Redis or of a cluster; the arguments are those of `Database`."""
    return (ClusterDatabase if upstream.nodes else Database)(upstream, rate)


def _attempts(database: ClusterDatabase, master: Master, names: list[str], key: bytes) -> list[Any]:
    """Try commands at a master, on a connection of its own."""
    with node_client(database.upstream, master.address) as client, client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.execute_command(*attempt(name, key, 0))
        return list(pipeline.execute(raise_on_error=False))


def _info(master: Master, section: str) -> dict[str, Any]:
    try:
        return dict(master.client.info(section))
    except ResponseError:
        return {}


def _key_of(call: Call) -> bytes:
    key = call[0]
    return key if isinstance(key, bytes) else str(key).encode()


def _caught(work: Callable[[], Any]) -> Any:  # noqa: ANN401 - replies have any shape
    """Return what some work returns, or the error that a server answers."""
    try:
        return work()
    except ResponseError as error:
        return error


def _is_elsewhere(reply: object) -> bool:
    """Say whether a reply means that a key is not here, or no longer: ASK, MOVED, TRYAGAIN, or a script that met it."""
    if isinstance(reply, AskError | TryAgainError):
        return True
    return isinstance(reply, ResponseError) and "non local key" in str(reply)
