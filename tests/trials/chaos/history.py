"""The life of every task, from Redis's own append-only file: each write that took effect, in order.

A script's writes are one block (MULTI ... EXEC), as they were one step. The file is a witness that no kill makes
forget: what Redis acknowledged is in it, and what is in it took effect.

What must not be, at the end of any single step, is noted as a fault, of the kinds that `census` describes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import hiredis

from asynq_ttl.asynq.hold import FIELD
from trials.chaos.census import Fault
from trials.chaos.policy import TERMINAL, retention

CLOCK_KEY = b"chaos:clock"
"""Begins the keys that hold the time in milliseconds, written again and again: it dates what is written after it."""
LOCK_KEY = b"asynq-ttl:sweeper"
"""Begins the keys of sweepers' locks."""

Block = list[list[bytes]]
"""The commands of one step."""


class LeavingBlock(list[list[bytes]]):
    """The commands of one step at a node that the queue's slot is leaving."""


_END_OF_TIME_MS = 2**63
_DELETIONS = (b"DEL", b"UNLINK")
# What an enqueue replaces, it renames: to a key that is no task's.
_ENDS = (*_DELETIONS, b"RENAME")
_HOLD = FIELD.encode()
_PIECE_BYTES = 1 << 16
# Scores are whole seconds, rounded down.
_SECOND_MS = 1100


class End(Enum):
    """How a task went from the keyspace."""

    DONE = "done"
    """Worked off, without a retention."""
    LEFT = "done at a node that its slot was leaving"
    """Likewise. Redis lets no script write a key again there that it has deleted, so no rule can keep the task."""
    DELETED = "deleted by policy"
    """By the same step that completed or archived it."""
    SWEPT = "swept when due"
    """Together with its index entry, by the sweeper, or by Asynq's own janitor or trim."""
    EXPIRED = "expired when nobody swept"
    """By its TTL, the backstop."""
    REPLACED = "replaced"
    """By the step that adds a new task with its ID."""
    BY_HAND = "deleted by hand"
    """Whatever its state and however long it had to live: only an operator may do that."""


@dataclass(slots=True)
class Moment:
    """When something was written: between two times of the clock, in milliseconds since the epoch.

    They are a tenth of a second apart, or as long as Redis was away.
    """

    after_ms: int = 0
    before_ms: int = _END_OF_TIME_MS


@dataclass(frozen=True, slots=True)
class Ending:
    """One end of a task (its ID may live again).

    Attributes:
        end: how it ended.
        state: its state before.
        when: when.
        due_ms: when its TTL would have been over; None if it had none.
        over_ms: when its time was over by its entry's score: that counts from when a client says that it ended, and its
            TTL from when Redis was told. None where nothing says so, or what does cannot be true.
        released: whether it had been held in this state and released: its time may have been over then.
        held: whether it was held.
    """

    end: End
    state: str
    when: Moment
    due_ms: int | None
    over_ms: int | None = None
    released: bool = False
    held: bool = False

    @property
    def overdue(self) -> bool:
        """Whether its TTL was over by then, at the latest in the very tick in which a step came upon it."""
        return self.due_ms is not None and self.due_ms <= self.when.before_ms


@dataclass(slots=True)
class Life:
    """What is known of an ID: its task's state and TTL now (empty if it is not there), its holds, and all its ends.

    `births` is how often a task with this ID came to be.
    `rounds` is when the rounds of its queue's sweepers began, `since` since when it has its state.
    """

    queue: str
    rounds: list[Moment]
    state: str = ""
    due_ms: int | None = None
    over_ms: int | None = None
    since: Moment = field(default_factory=Moment)
    held: bool = False
    released: bool = False
    births: int = 0
    endings: list[Ending] = field(default_factory=list)


@dataclass(slots=True)
class History:
    """What became of every task, when the sweepers' rounds began, and what was wrong on the way.

    Attributes:
        lives: what is known of each task, by its ID.
        now: when what is read now was written.
        rounds: when sweepers' rounds began.
        faults: what was wrong at the end of a step.
        steps: the number of steps.
        kept: how many tasks that had succeeded without a Retention became completed ones.
        replaced: how many were replaced.
    """

    lives: dict[str, Life] = field(default_factory=dict)
    now: Moment = field(default_factory=Moment)
    rounds: list[Moment] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    steps: int = 0
    kept: int = 0
    replaced: int = 0


def read(steps: Iterable[Block]) -> History:
    """Read what was written, step by step."""
    history = History()
    for block in steps:
        history.steps += 1
        _follow(history, block)
    return history


def merge(histories: Iterable[History]) -> History:
    """Return one history of queues that were read one by one, because each was somewhere else."""
    merged = History()
    for history in histories:
        merged.lives |= history.lives
        merged.rounds += history.rounds
        merged.faults += history.faults
        merged.steps += history.steps
        merged.kept += history.kept
        merged.replaced += history.replaced
    return merged


def pieces_of(path: Path) -> Iterator[bytes]:
    """Yield the content of a file in pieces: what reads it moves all that it has not read yet, again and again."""
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def steps_of(written: Iterable[bytes]) -> Iterator[Block]:
    """Yield the steps of an append-only file: a transaction, or a single command.

    Args:
        written: its content, in pieces.
    """
    reader = hiredis.Reader()
    block: Block | None = None
    for piece in written:
        reader.feed(piece)
        while (command := reader.gets()) is not False:
            name = command[0].upper()
            if name == b"MULTI":
                block = []
            elif name == b"EXEC":
                yield block or []
                block = None
            elif name == b"SELECT":
                continue  # Redis has it before a transaction, Valkey in it; there is one database
            elif block is not None:
                block.append(command)
            else:
                yield [command]


def _follow(history: History, block: Block) -> None:
    """Follow one step."""
    # Of each task that this step touches: the state before, and how many ends it had had.
    touched: dict[str, tuple[str, int]] = {}
    for name, key, arguments in _writes(block):
        if key.startswith(CLOCK_KEY) and name == b"SET":
            history.now.before_ms = int(arguments[0])
            history.now = Moment(int(arguments[0]))
        elif key.startswith(LOCK_KEY) and name == b"SET":
            history.rounds.append(history.now)
        head, mark, raw_id = key.partition(b"}:t:")
        if mark:
            task_id = raw_id.decode()
            life = history.lives.setdefault(task_id, Life(head.removeprefix(b"asynq:{").decode(), history.rounds))
            before, _ = touched.setdefault(task_id, (life.state, len(life.endings)))
            if name in _ENDS:
                end = End.REPLACED if name == b"RENAME" else _end_of(life, before, raw_id, block)
                if life.due_ms is not None and life.due_ms < history.now.after_ms:
                    end = End.EXPIRED  # whatever the step was about, it came too late, and found the entry only
                life.endings.append(
                    Ending(end, life.state, history.now, life.due_ms, life.over_ms, life.released, life.held)
                )
                life.state, life.due_ms, life.held, life.released = "", None, False, False
            else:
                _change(history, task_id, life, name, arguments)
    scores = _scores(block)
    for task_id, (before, ends) in touched.items():
        life = history.lives[task_id]
        replaced = any(ending.end is End.REPLACED for ending in life.endings[ends:])
        history.replaced += replaced
        if replaced and not life.state:
            history.faults.append(Fault("lost", life.queue, task_id, "put aside, and nothing is in its place"))
        if (before, life.state) == ("active", "completed") and len(life.endings) > ends:
            # Asynq's script deletes it, the wrapper writes it anew: that is no end.
            del life.endings[ends:]
            life.births -= 1
            history.kept += 1
        if before != life.state:
            life.over_ms = _over_ms(life, task_id, scores)
            life.since = history.now
        _check(history, task_id, life)


def _writes(block: Block) -> Iterator[tuple[bytes, bytes, list[bytes]]]:
    """Yield each write: the command's name, the key, the arguments."""
    for command in block:
        name = command[0].upper()
        if name in _DELETIONS:
            yield from ((name, key, []) for key in command[1:])
        elif len(command) > 1:
            yield name, command[1], command[2:]


def _change(history: History, task_id: str, life: Life, name: bytes, arguments: list[bytes]) -> None:
    """Follow a write to a task that is no deletion."""
    if name in (b"HSET", b"HMSET"):
        fields = dict(zip(arguments[::2], arguments[1::2], strict=True))
        if not life.state and b"msg" not in fields:
            history.faults.append(Fault("half", life.queue, task_id, f"came to be as {fields}"))
        life.births += not life.state
        if b"state" in fields and fields[b"state"].decode() != life.state:
            life.state, life.held, life.released = fields[b"state"].decode(), False, False
        life.state = life.state or "?"
        life.held = life.held or _HOLD in fields
    elif name == b"PEXPIREAT":
        life.due_ms = int(arguments[0])
    elif name == b"PERSIST":
        life.due_ms = None
    elif name == b"HDEL" and _HOLD in arguments and life.state in TERMINAL:
        life.held, life.released = False, True
    elif name not in (b"HDEL", b"HINCRBY"):
        history.faults.append(Fault("unknown", life.queue, task_id, f"{name.decode()} is not followed"))


def _end_of(life: Life, before: str, raw_id: bytes, block: Block) -> End:
    """Say how a task went: by what it was before the step, and by what else the step does."""
    if life.state in TERMINAL:
        if before != life.state:
            return End.DELETED
        index = f"asynq:{{{life.queue}}}:{life.state}".encode()
        if any(command[0].upper() in _DELETIONS and index in command for command in block):
            return End.BY_HAND
        entry = any(command[0].upper() == b"ZREM" and command[1] == index and raw_id in command for command in block)
        return End.SWEPT if entry else End.EXPIRED
    left_active = any(command[0].upper() == b"LREM" and command[1].endswith(b":active") for command in block)
    if life.state == "active" and left_active:
        return End.LEFT if isinstance(block, LeavingBlock) else End.DONE
    return End.BY_HAND


def _scores(block: Block) -> dict[tuple[bytes, bytes], float]:
    """Return the scores that a step gives, by index and member."""
    added = [command for command in block if command[0].upper() == b"ZADD"]
    return {(command[1], command[-1]): float(command[-2]) for command in added}


def _over_ms(life: Life, task_id: str, scores: dict[tuple[bytes, bytes], float]) -> int | None:
    """Return when the time is over of a task that has just ended, by the score of its entry; see `Ending`.

    A client may be late in telling Redis, but it ended no earlier than it came to the state that it had before.
    """
    kept = retention(task_id, life.state) if life.state in TERMINAL else None
    score = scores.get((f"asynq:{{{life.queue}}}:{life.state}".encode(), task_id.encode()))
    if kept is None or score is None:
        return None
    over_ms = int(score * 1000) + (kept * 1000 if life.state == "archived" else 0)
    return over_ms if over_ms - kept * 1000 >= life.since.after_ms - _SECOND_MS else None


def _check(history: History, task_id: str, life: Life) -> None:
    """Note what must not be at the end of a step."""
    if life.state in TERMINAL:
        if life.held and life.due_ms is not None:
            history.faults.append(Fault("held-ttl", life.queue, task_id, f"held and {life.state} with a TTL"))
        if not life.held and life.due_ms is None and retention(task_id, life.state) is not None:
            history.faults.append(Fault("untimed", life.queue, task_id, f"{life.state} without a TTL"))
    elif life.due_ms is not None:
        history.faults.append(Fault("live-ttl", life.queue, task_id, f"{life.state or 'gone'} with a TTL"))
