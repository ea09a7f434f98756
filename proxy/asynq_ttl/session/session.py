"""One client's conversation: what goes on to Redis for what came in. No I/O, no clock of its own.

It must not know how bytes come or go, nor why a script call is rewritten: `script_calls` decides that.

Invariants:

* One command in, one command out, in order. So pipelining and MULTI need no bookkeeping, and replies are copied;
  they are counted only to know which one answers a decision. One line may be another one: see `pending`.
* What is not rewritten goes on as the very bytes that came.
* While `waiting_for` is set, a wrapper has to be activated before the next command can go: the relay feeds nothing
  more, tries to activate that script and calls `resume`.
"""

from collections import deque
from collections.abc import Callable, Collection
from typing import Final, Protocol

from asynq_ttl.events import Decision, Enqueue, FailOpen
from asynq_ttl.rewriting.registry import Script
from asynq_ttl.session.fast_path import numkeys
from asynq_ttl.session.holding import Holding
from asynq_ttl.session.pending import Pending
from asynq_ttl.session.renaming import Questions
from asynq_ttl.session.script_calls import FORWARD, Answer, ScriptCalls
from asynq_ttl.session.selected import Selected
from asynq_ttl.session.shared import Shared
from asynq_ttl.wire.commands import Command, CommandFramer, encode

_NO_QUESTIONS: Final = Questions()


class Dialogue(Protocol):
    """What a relay has to know of a client's conversation: here with one Redis, in `routing` with a cluster."""

    commands: int
    holding: Holding

    @property
    def database(self) -> int:
        """The number of the database that the next command goes to."""

    @property
    def pending(self) -> int:
        """What waits for a reply and is of interest."""

    @property
    def held_bytes(self) -> int:
        """The size of what is held back of the client's bytes."""

    @property
    def waiting_for(self) -> Script | None:
        """The script whose wrapper has to be activated before anything more is fed."""

    @property
    def replies(self) -> int:
        """Replies that came."""

    @property
    def counting(self) -> bool:
        """Whether replies are counted."""

    @property
    def busy(self) -> bool:
        """Whether the client is in the middle of something."""

    @property
    def receive_upstream(self) -> Callable[[bytes], None]:
        """Takes note of what goes to the client."""

    @property
    def marks(self) -> Collection[int]:
        """What is due of replies that may not go to the client as they are."""

    @property
    def unmark(self) -> Callable[[bytes], bytes]:
        """While there is any of them, takes note of what Redis sends, and returns what goes to the client."""

    def receive_downstream(self, data: bytes) -> bytes:
        """Take bytes of the client; return the bytes to send to Redis."""

    def resume(self) -> bytes:
        """Go on after an activation; return what to send."""

    def give_back(self) -> None:
        """Give back the room of a large command that has gone on."""

    def close(self) -> None:
        """Hold nothing any more."""


class Session:
    """One client connection.

    Args:
        shared: what all sessions share.
        database: the database number that the connection starts with.
        questions: who takes note of what the client asks of the nodes of a cluster.
    """

    __slots__ = (
        "_calls", "_framer", "_out", "_pending", "_questions", "_raw", "_recall", "_rest", "_selected",
        "_shared", "_untouched", "commands", "holding", "marks", "receive_upstream", "unmark", "waiting_for",
    )  # fmt: skip

    def __init__(self, shared: Shared, database: int = 0, questions: Questions = _NO_QUESTIONS) -> None:
        self._questions = questions
        self.commands = 0
        """Commands sent to Redis that will be replied to."""
        self._selected = Selected(database, shared.databases)
        self.waiting_for: Script | None = None
        """The script whose wrapper has to be activated before anything more is fed."""
        self._shared = shared
        self._calls = ScriptCalls(shared, self._expect, self._await_enqueue)
        self._pending = Pending(shared.observer, shared.clock, self._selected.answer)
        self.receive_upstream: Callable[[bytes], None] = self._pending.receive
        """Take note of bytes of Redis, which go to the client as they are."""
        self.marks, self.unmark = self._pending.marks, self._pending.unmark
        """Which replies may not go to the client as they are. While any is due, the latter takes Redis's bytes."""
        self.holding = Holding(shared.room, self._calls.may_be_rewritten, shared.fail_open_in_pieces)
        """What is held of large commands. The relay gives the room back, once Redis has the command (`give_back`)."""
        self._framer = CommandFramer(shared.whole, self.holding.must_hold)
        # What is asked for every chunk.
        self._recall, self._untouched = shared.memory.recall, shared.registry.untouched
        # While a batch is being worked on: its bytes, the commands still to come, what is ready to be sent.
        self._raw = b""
        self._rest: deque[Command] = deque()
        self._out: list[bytes] = []

    @property
    def database(self) -> int:
        """The number of the database that the next command goes to."""
        return self._selected.number

    @property
    def replies(self) -> int:
        """Replies that Redis has sent."""
        return self._pending.replies

    @property
    def held_bytes(self) -> int:
        """The size of what the session holds back of the client's bytes."""
        return self._framer.held_bytes + len(self._raw)

    @property
    def counting(self) -> bool:
        """Whether replies can be assigned to commands, and commands are counted."""
        return self._pending.counting and not self._framer.opaque

    @property
    def busy(self) -> bool:
        """Whether the client is in the middle of a command or of a transaction."""
        return self._calls.in_transaction or self._framer.passing or self.held_bytes > 0

    @property
    def pending(self) -> int:
        """Decisions, and changes of the database, that wait for their reply."""
        return len(self._pending)

    def receive_downstream(self, data: bytes) -> bytes:
        """Take bytes of the client; return the bytes to send to Redis, often the very same object."""
        if self._framer.between:
            # Nearly every chunk is one command, or some that are of no interest; nearly all of Asynq's call a script.
            known = self._shared.memory.known(self._shared.rewriter)
            match self._recall(data, SPECIAL_NAMES, self._untouched, *known):
                case int() as number:
                    self.commands += number
                    return data
                case bytes() as instead:
                    self.commands += 1
                    return instead
                case bytes() as instead, Decision() as decision:
                    self.commands += 1
                    self._expect(decision)
                    return instead
                case list() as command, int() as keys:
                    return self.take_one(data, command, keys)
        data, commands, start = self._framer.feed(data)
        for position, command in enumerate(commands):
            # An empty command ("*0") gets no reply; one that starts with something else than a bulk string is
            # refused by Redis, which then hangs up.
            if command and type(command[0]) is bytes:
                if command[0].upper() in _SPECIAL:
                    return self._take_batch(data, start, commands, position)
                self.commands += 1
        return data

    def take_one(self, data: bytes, command: Command, keys: int) -> bytes:
        """Take a command of interest that is all of a chunk; return what to send, nothing where it has to wait."""
        answer = self._decide(command, keys, None, data)
        if answer is FORWARD:
            return data
        if isinstance(answer, Script):
            self.waiting_for = answer
            self._raw = data
            self._rest.append(command)
            return b""
        return encode(answer)

    def resume(self) -> bytes:
        """Go on with a batch after the activation it waited for, whatever its end; return what to send."""
        script, self.waiting_for = self.waiting_for, None
        return self._continue(activated=script)

    def give_back(self) -> None:
        """Give back the room of a large command that has gone on."""
        if self.waiting_for is None:
            self.holding.give_back(self._framer.held_bytes)

    def close(self) -> None:
        """Tell about decisions whose replies will never come, and hold nothing any more."""
        self._pending.close()
        self.holding.give_back(0)

    # --- commands that are of interest ---------------------------------------------------------------------

    def _take_batch(self, data: bytes, start: int, commands: list[Command], position: int) -> bytes:
        """Go through the commands of a batch from `position` on; the ones before go as they came."""
        start += sum(len(encode(command)) for command in commands[:position])
        self._out = [data[:start]] if start else []
        self._raw = data[start:] if start else data
        self._rest = deque(commands[position:])
        return self._continue(activated=None)

    def _continue(self, activated: Script | None) -> bytes:
        """Work on the rest of the batch; stop where a script has to be activated first."""
        ahead = 0  # how much of self._raw is commands that go as they came
        while self._rest:
            command = self._rest[0]
            if self._framer.passing and len(self._rest) == 1:
                self.commands += 1  # the beginning of a large command that is let through in pieces
                if command[0].upper() in _UNCOUNTABLE:
                    self._pending.stop()
                break
            original = _encoded(command)
            if not original or not self._raw.startswith(original, ahead):
                # Not the one plain form of a command, so it is not certain that Redis sees the same one.
                self._framer.give_up()
                break
            answer = self._decide(command, None, activated, b"")
            if isinstance(answer, Script):
                self.waiting_for = answer
                break
            self._rest.popleft()
            activated = None
            if answer is FORWARD:
                ahead += len(original)
            else:
                self._out += (self._raw[:ahead], encode(answer))
                self._raw = self._raw[ahead + len(original) :]
                ahead = 0
        if self.waiting_for is None:
            ahead = len(self._raw)
            self._rest.clear()
        out = b"".join((*self._out, self._raw[:ahead])) if self._out else self._raw[:ahead]
        self._raw = self._raw[ahead:]
        self._out = []
        return out

    def _decide(self, command: Command, keys: int | None, activated: Script | None, chunk: bytes) -> Answer:
        """Decide about one command, and count it unless it has to wait.

        Args:
            command: the command.
            keys: its number of KEYS; None where that was not looked for.
            activated: the script whose activation was just tried for it, with whatever success.
            chunk: its bytes, if it is all of a chunk; empty otherwise.
        """
        if not command:
            return FORWARD  # "*0": Redis skips it without a reply
        self.commands += 1
        handler = _SPECIAL.get(command[0].upper())
        if handler is None:
            return FORWARD
        try:
            answer = handler(self, command, numkeys(command) if keys is None else keys, activated, chunk)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the sidecar, the command goes on
            self._shared.fail_open(FailOpen.INTERNAL, f"{type(error).__name__}: {error}")
            return FORWARD
        if isinstance(answer, Script):
            self.commands -= 1
        return answer

    def _expect(self, decision: Decision) -> None:
        self._pending.expect(decision, self.commands, self._selected.number)

    def _await_enqueue(self, enqueue: Enqueue) -> bool:
        return self._pending.await_enqueue(enqueue, self.commands, self._selected.number)

    # --- one handler for each kind of command -----------------------------------------------------------------

    def _script(self, command: Command, _keys: int, activated: Script | None, _chunk: bytes) -> Answer:
        return self._calls.script(command, activated)

    def _multi(self, *_: object) -> Answer:
        self._calls.begin_transaction()
        self._questions.begin_transaction(self.commands)
        return FORWARD

    def _end_multi(self, command: Command, *_: object) -> Answer:
        self._calls.end_transaction()
        number = self.commands if self._pending.counting else 0
        self._questions.end_transaction(number, executed=command[0].upper() == b"EXEC")
        return FORWARD

    def _select(self, command: Command, *_: object) -> Answer:
        if len(command) == 2 and command[1].isdigit():
            database = int(command[1][:10])
            self._selected.ask(database)
            self._pending.expect(None, self.commands, database)
        return FORWARD

    def _login(self, command: Command, *_: object) -> Answer:
        changed = self._shared.login(command) if self._shared.login is not None else None
        return FORWARD if changed is None else changed

    def _reset(self, command: Command, *_: object) -> Answer:
        self._end_multi(command)
        return self._select([b"SELECT", b"0"])

    def _uncountable(self, *_: object) -> Answer:
        self._pending.stop()
        return FORWARD

    def _client(self, command: Command, *_: object) -> Answer:
        if len(command) > 1 and command[1].upper() == b"REPLY":
            self._pending.stop()
        return FORWARD

    def _cluster(self, command: Command, *_: object) -> Answer:
        name = command[1].upper() if len(command) > 1 else b""
        queued = self._calls.in_transaction
        if not self._questions.ask(name, self.commands if queued or self._pending.counting else 0, queued=queued):
            return [command[0], _NO_SUBCOMMAND]
        if name in _TOPOLOGY:
            self._shared.observer.clustered(redirected=False)
        return FORWARD


def _encoded(command: Command) -> bytes:
    """Return the plain form of a command; nothing where it has none (its elements are no bulk strings)."""
    try:
        return encode(command)
    except TypeError:
        return b""


# Redis answers that there is no such subcommand.
_NO_SUBCOMMAND: Final = b"TOO-MANY-UNANSWERED"
# By these a client learns where the nodes of a cluster are.
_TOPOLOGY: Final = (b"SLOTS", b"SHARDS", b"NODES")
# After these, replies can no longer be assigned to commands.
_UNCOUNTABLE: Final = frozenset(
    {
        *(b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE", b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"SUNSUBSCRIBE"),
        *(b"MONITOR", b"SYNC", b"PSYNC", b"REPLCONF"),
    }
)

_Handler = Callable[[Session, Command, int, Script | None, bytes], Answer]
_SPECIAL: dict[bytes, _Handler] = {
    b"EVALSHA": lambda session, *call: session._calls.evalsha(*call),  # noqa: SLF001 - the class's own methods
    b"EVAL": lambda session, *call: session._calls.eval(*call[:3]),  # noqa: SLF001
    b"SCRIPT": Session._script,  # noqa: SLF001
    b"MULTI": Session._multi,  # noqa: SLF001
    b"EXEC": Session._end_multi,  # noqa: SLF001
    b"DISCARD": Session._end_multi,  # noqa: SLF001
    b"SELECT": Session._select,  # noqa: SLF001
    b"AUTH": Session._login,  # noqa: SLF001
    b"HELLO": Session._login,  # noqa: SLF001
    b"RESET": Session._reset,  # noqa: SLF001
    b"CLIENT": Session._client,  # noqa: SLF001
    b"CLUSTER": Session._cluster,  # noqa: SLF001
    **dict.fromkeys(_UNCOUNTABLE, Session._uncountable),  # noqa: SLF001
}
SPECIAL_NAMES: Final = frozenset(_SPECIAL)
"""The names of the commands that a session is interested in, in upper case."""
