"""A cluster whose masters can be killed, and whose slots can move, without anything that it acknowledged being lost.

Redis replicates without waiting. What it loses by that is no fault of the sidecar, so here it loses nothing: a master
that is to die for good is told to write nothing more (`CLIENT PAUSE`), and is killed once its replica has all it wrote.
A replica may take over only then. A master that is killed just so comes back with its append-only file, like one Redis.

What was written about a queue is in the files of one node after the other. While its slot is on its way it is in two:
the tasks go first, the rest follows in one step. By other ways Asynq itself damages tasks: its forwarder, at the node
that the slot goes to, makes hashes without a message of tasks that have not arrived yet. Its scripts for many tasks
stop in the middle when they come to one that has left, which is why nobody runs them then (`steady`).
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from asynq_ttl.wire.cluster.slots import slot_of
from support.cluster import Cluster, Kind, Node, start_cluster
from support.servers import wait_until
from support.slot_move import Move
from trials.chaos import history
from trials.chaos.history import Block, History, LeavingBlock
from trials.chaos.killer import Strike
from trials.chaos.policy import QUEUES

_KINDS = {"redis": "path-redis", "valkey": "valkey"}
_OPTIONS = (
    *("--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"),
    # A machine that is busy is late: that a node is is noticed later than elsewhere.
    *("--cluster-node-timeout", "3000"),
    *("--cluster-replica-no-failover", "yes", "--cluster-replica-validity-factor", "0"),
)
_SECONDS = 180
_PAUSE_SECONDS = 0.05
_TASKS_AT_ONCE = 100
_ALL = 1_000_000


@dataclass(slots=True)
class Piece:
    """What one node wrote about a queue for some time.

    Attributes:
        node: the node.
        file: the file that it writes to.
        begin: where in the file it begins.
        copy: where it is kept when it has ended.
        leaving: whether the slot was leaving this node.
        arriving: whether it was on its way to this node.
    """

    node: Node
    file: Path
    begin: int
    copy: Path
    leaving: bool = False
    arriving: bool = False


class DurableCluster:
    """Three masters with a replica each.

    Args:
        kind: `redis` or `valkey`.
        folder: where the evidence is kept.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self._kind = kind
        self._folder = folder
        self._stack = ExitStack()
        # By number: who is the master now, who its replica.
        self._shards: list[tuple[Node, Node]] = []
        self._slots: dict[int, int] = {}
        self._clients: dict[int, Redis] = {}
        self._pieces: dict[str, list[Piece]] = {queue: [] for queue in QUEUES}
        # How many keep each queue where it is, which is on its way, and a lock on both.
        self._keeping: Counter[str] = Counter()
        self._moving: set[str] = set()
        self._changed = threading.Condition()
        self.clocks = {queue: f"chaos:clock:{{{queue}}}" for queue in QUEUES}
        """The key of the clock of each queue."""
        folder.mkdir()

    @property
    def url(self) -> str:
        """Its URL."""
        return self.cluster.url

    def start(self) -> None:
        """Start it, and wait until every replica writes down what its master does."""
        kind = Kind(_KINDS[self._kind], replicas=1, options=_OPTIONS)
        self.cluster: Cluster = self._stack.enter_context(start_cluster(kind))
        masters = [node for node in self.cluster.nodes if node.slots]
        self._shards = [(master, self.cluster.replica_of(master)) for master in masters]
        self._await_ready()
        for queue, pieces in self._pieces.items():
            master = self._shards[self._shard(queue)][0]
            pieces.append(self._piece(queue, master, self._size(master)))

    def end(self) -> None:
        """End it."""
        for client in self._clients.values():
            client.close()
        self._stack.close()

    def client(self, place: str) -> "Redis":
        """Return a connection to the master of a queue or another key, which does not try again. It is shared."""
        return self._client(self._shards[self._shard(place)][0])

    @contextmanager
    def steady(self, queue: str) -> Iterator[bool]:
        """Keep a queue's slot where it is, unless it is on its way already: that is what the block is told."""
        with self._changed:
            steady = queue not in self._moving
            self._keeping[queue] += steady
        try:
            yield steady
        finally:
            with self._changed:
                self._keeping[queue] -= steady
                self._changed.notify_all()

    @property
    def strikes(self) -> dict[str, Strike]:
        """What can be done to it, by name."""
        return {"crash": self.crashed, "failover": self.failed_over, "move": self.moved}

    def history(self) -> History:
        """Return what became of every task."""
        return history.merge(history.read(self._steps(queue)) for queue in QUEUES)

    # --- what can be done to it -----------------------------------------------------------------------------

    @contextmanager
    def crashed(self, dice: random.Random) -> Iterator[None]:
        """Kill a master, which is back with all its keys when the block is over."""
        master, _ = dice.choice(self._shards)
        self.cluster.kill(master)
        yield
        self._return(master)

    @contextmanager
    def failed_over(self, dice: random.Random) -> Iterator[None]:
        """Kill a master that its replica takes over from; when the block is over it is back as a replica."""
        number = dice.randrange(len(self._shards))
        master, replica = self._shards[number]
        queues = [queue for queue in QUEUES if self._shard(queue) == number]
        replica_client = self._client(replica)
        replica_client.config_set("cluster-replica-no-failover", "no")
        self._client(master).execute_command("CLIENT PAUSE", 2 * _SECONDS * 1000, "WRITE")
        wait_until(lambda: self._offset(master) == self._offset(replica), "the replica lags behind", _SECONDS)
        for queue in queues:
            self._close(queue)
            self._pieces[queue].append(self._piece(queue, replica, self._size(replica)))
        self.cluster.kill(master)
        self._shards[number] = (replica, master)
        wait_until(lambda: self._is_master(replica), "the replica does not take over", _SECONDS)
        replica_client.config_set("cluster-replica-no-failover", "yes")
        yield
        self._return(master)

    @contextmanager
    def moved(self, dice: random.Random) -> Iterator[None]:
        """Move a queue's slot to another master: half of its tasks before the block, the rest after it."""
        with self._on_its_way(dice) as queue:
            number, slot = self._shard(queue), slot_of(queue.encode())
            goal = dice.choice([each for each in range(len(self._shards)) if each != number])
            source, target = self._shards[number][0], self._shards[goal][0]
            self._pieces[queue] += [
                self._piece(queue, source, self._close(queue), leaving=True),
                self._piece(queue, target, self._size(target), arriving=True),
            ]
            with self.cluster.moving(slot, source, target) as move:
                self._move_tasks(move, len(_tasks(move)) // 2)
                yield
                while move.keys(1):
                    self._move_tasks(move, _ALL)
                    if not _tasks(move):
                        move.take(move.keys(_ALL))
            wait_until(lambda: self.cluster.agree(slot, target), "not all nodes know where the slot is", _SECONDS)
            self._slots[slot] = goal
            self._keep(self._pieces[queue][-2])
            self._pieces[queue].append(self._piece(queue, target, self._close(queue)))

    def _move_tasks(self, move: Move, most: int) -> None:
        keys = _tasks(move)[:most]
        for first in range(0, len(keys), _TASKS_AT_ONCE):
            move.take(keys[first : first + _TASKS_AT_ONCE])
            time.sleep(_PAUSE_SECONDS)

    @contextmanager
    def _on_its_way(self, dice: random.Random) -> Iterator[str]:
        """Take a queue that nobody keeps where it is, and have it on its way while the block runs."""
        with self._changed:
            self._changed.wait_for(lambda: len(+self._keeping) < len(QUEUES))
            queue = dice.choice([each for each in QUEUES if not self._keeping[each]])
            self._moving.add(queue)
        try:
            yield queue
        finally:
            with self._changed:
                self._moving.remove(queue)

    def _return(self, node: Node) -> None:
        self._stack.enter_context(self.cluster.return_of(node))
        self._await_ready()

    def _offset(self, node: Node) -> int:
        """Return how much of its master's stream a node has."""
        found = self._client(node).info("replication")
        return int(found.get("slave_repl_offset", found["master_repl_offset"]))

    def _is_master(self, node: Node) -> bool:
        return self.cluster.ask(node, "ROLE")[0] == b"master" and self.cluster.is_whole()

    def _await_ready(self) -> None:
        """Wait until every replica has what its master has, and writes down what that goes on to do."""

        def ready() -> bool:
            if not self.cluster.is_whole():
                return False
            nodes = [node for shard in self._shards for node in shard]
            found = [self._client(node).info() for node in nodes]
            roles = [self.cluster.ask(replica, "ROLE")[0] for _, replica in self._shards]
            return all(
                each["aof_enabled"] and not each["aof_rewrite_in_progress"] and not each["aof_rewrite_scheduled"]
                for each in found
            ) and roles == [b"slave"] * len(roles)

        wait_until(ready, "the nodes do not find each other again", _SECONDS)

    # --- where what was written is ------------------------------------------------------------------------

    def _shard(self, place: str) -> int:
        """Return the number of the shard that a queue, or another key, is in."""
        slot = slot_of(place.encode())
        masters = [node for node in self.cluster.nodes if node.slots]
        first = next(number for number, node in enumerate(masters) if node.slots and slot <= node.slots[1])
        return self._slots.get(slot, first)

    def _client(self, node: Node) -> "Redis":
        if node.port not in self._clients:
            self._clients[node.port] = Redis(port=node.port, socket_timeout=5, retry=Retry(NoBackoff(), 0))
        return self._clients[node.port]

    def _file(self, node: Node) -> Path:
        """Return the append-only file that a node writes to."""
        found = self.cluster.folder(node).rglob("*.incr.aof")
        return max(found, key=lambda path: int(path.name.split(".")[-3]))

    def _size(self, node: Node) -> int:
        return self._file(node).stat().st_size

    def _piece(self, queue: str, node: Node, begin: int, *, leaving: bool = False, arriving: bool = False) -> Piece:
        copy = self._folder / f"{queue}-{len(self._pieces[queue])}{'-arriving' * arriving}.aof"
        return Piece(node, self._file(node), begin, copy, leaving, arriving)

    def _close(self, queue: str) -> int:
        """Keep the last piece of a queue; return where in the node's file the next one begins."""
        return self._keep(self._pieces[queue][-1])

    def _keep(self, piece: Piece) -> int:
        """Copy a piece, for a node that becomes a replica begins a new file; return where it ends."""
        assert self._file(piece.node) == piece.file, f"{piece.node} has begun a new file while it was a master"
        with piece.file.open("rb") as file:
            file.seek(piece.begin)
            piece.copy.write_bytes(file.read())
            return file.tell()

    def _steps(self, queue: str) -> Iterator[Block]:
        """Yield the steps of a queue and of the sweepers where it was, as if there had been one Redis.

        While its slot is on its way no sweeper comes to it.
        """
        self._close(queue)
        pieces = self._pieces[queue]
        tag = f"{{{queue}}}".encode()
        for piece, following in zip(pieces, [*pieces[1:], None], strict=True):
            arrived = _restored(following, tag) if piece.leaving and following else set()
            for step in _read(piece):
                key = step[0][1] if step and len(step[0]) > 1 else b""
                if tag in key:
                    step = without_moves(step, piece, arrived)  # noqa: PLW2901 - as it would be in one Redis
                elif piece.leaving or piece.arriving or not key.startswith(history.LOCK_KEY):
                    continue
                if step:
                    yield LeavingBlock(step) if piece.leaving else step


def _tasks(move: Move) -> list[str]:
    """Return the task keys that have not moved yet."""
    return [key for key in move.keys(_ALL) if "}:t:" in key]


def _read(piece: Piece) -> Iterator[Block]:
    return history.steps_of(history.pieces_of(piece.copy))


def _restored(piece: Piece, tag: bytes) -> set[bytes]:
    """Return the keys that have come while the slot was on its way."""
    commands = (command for step in _read(piece) for command in step)
    return {command[1] for command in commands if _is_restoring(command) and tag in command[1]}


def _is_restoring(command: list[bytes]) -> bool:
    return command[0].upper().startswith(b"RESTORE")


def without_moves(step: Block, piece: Piece, arrived: set[bytes]) -> Block:
    """Return a step without what only says that a key goes from one node to the other.

    Keys that have expired by then are deleted in the same step.
    """
    if piece.arriving:
        return [command for command in step if not _is_restoring(command)]
    if piece.leaving and all(command[0].upper() in (b"DEL", b"UNLINK") for command in step):
        stayed = ([name, *(key for key in keys if key not in arrived)] for name, *keys in step)
        return [command for command in stayed if len(command) > 1]
    return step
