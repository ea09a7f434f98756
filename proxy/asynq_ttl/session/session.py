"""The state of one client connection: what goes on to Redis for what came in. No I/O, no clock of its own.

One command in, one command out, in order: so pipelining, MULTI and replies need no bookkeeping, and replies
are copied. The session counts them only to know which one answers a decision.

A session keeps no reference to its upstream connection; the shell around it moves the bytes. Where a wrapper
has to be made known to Redis first, `waiting_for` is set: the shell feeds nothing more, activates that script
and calls `resume`.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from asynq_ttl.asynq.keys import subject_of, terminal_queue
from asynq_ttl.asynq.script_shape import Kind
from asynq_ttl.events import Decision, FailedOpen, FailOpen, Observer, Outcome
from asynq_ttl.rewriting.call import NotUnderstood, Rewrite
from asynq_ttl.rewriting.registry import IMPOSSIBLE_SHA, MAX_WRAPPED, Script, ScriptRegistry, Status
from asynq_ttl.rewriting.rewriter import Rewriter
from asynq_ttl.session.holding import Room
from asynq_ttl.wire.commands import (
    EVALSHA,
    HOLD_BYTES,
    MAX_HEAD_BYTES,
    MAX_HELD_BYTES,
    Command,
    CommandFramer,
    ReplyCounter,
    WholeCommands,
    beginning_of,
    count_replies,
    encode,
)

# Decisions waiting for their replies; past it a client pipelines more than anybody could follow. (Security
# limit.)
MAX_PENDING = 10_000
# SHAs that are remembered for a client. (Security limit.)
MAX_ASKED = 1_000
# Databases that are remembered for the sweeper. (Security limit; Redis has 16 unless configured otherwise.)
MAX_DATABASES = 256


@dataclass(slots=True)
class Shared:
    """What all sessions of a sidecar share.

    Attributes:
        registry: the scripts learnt so far.
        rewriter: decides by the policy in force; replaced as a whole when the policy changes.
        observer: who is told.
        clock: nanoseconds since the epoch.
        whole: the decoder of plain chunks.
        databases: the numbers of the Redis databases that clients have selected.
        room: for what is held of large commands.
        login: says what goes to Redis for an AUTH or HELLO; None for what came. None where they are Redis's alone.
    """

    registry: ScriptRegistry
    rewriter: Rewriter
    observer: Observer
    clock: Callable[[], int]
    whole: WholeCommands
    databases: set[int] = field(default_factory=set)
    room: Room = field(default_factory=Room)
    login: Callable[[Command], Command | None] | None = None


class Session:
    """One client connection.

    Args:
        shared: what all sessions share.
        database: the database number that the connection starts with.
    """

    __slots__ = (
        "_asked",
        "_counting",
        "_framer",
        "_in_multi",
        "_look_at",
        "_out",
        "_pending",
        "_raw",
        "_replies",
        "_rest",
        "_shared",
        "_untouched",
        "commands",
        "database",
        "replies",
        "taken_bytes",
        "waiting_for",
    )

    def __init__(self, shared: Shared, database: int = 0) -> None:
        self.commands = 0
        """Commands sent to Redis that will be replied to."""
        self.replies = 0
        """Replies that Redis has sent."""
        self.database = database
        self.waiting_for: Script | None = None
        """The script whose wrapper has to be activated before anything more is fed."""
        self.taken_bytes = 0
        """The room that a large command has. It is the shell that gives it back: when Redis has the command."""
        self._shared = shared
        self._framer = CommandFramer(shared.whole, self._must_hold)
        self._look_at = shared.whole.look
        self._untouched = shared.registry.untouched
        self._replies = ReplyCounter()
        # False once replies can no longer be assigned to commands (pub/sub, MONITOR, CLIENT REPLY, ...).
        self._counting = True
        self._in_multi = False
        # SHAs whose existence the client asked for.
        self._asked: set[bytes] = set()
        # Decisions that wait: the number of the command, the database it went to, and when.
        self._pending: deque[tuple[int, Decision, int, int]] = deque()
        # While a batch is being worked on: its bytes, the commands still to come, what is ready to be sent.
        self._raw = b""
        self._rest: deque[Command] = deque()
        self._out: list[bytes] = []

    @property
    def held_bytes(self) -> int:
        """The size of what the session holds back of the client's bytes."""
        return self._framer.held_bytes + len(self._raw)

    @property
    def counting(self) -> bool:
        """Whether replies can be assigned to commands, and commands are counted."""
        return self._counting and not self._framer.opaque

    @property
    def busy(self) -> bool:
        """Whether the client is in the middle of a command or of a transaction."""
        return self._in_multi or self._framer.passing or self.held_bytes > 0

    @property
    def pending(self) -> int:
        """Decisions that wait for their reply."""
        return len(self._pending)

    def receive_downstream(self, data: bytes) -> bytes:
        """Take bytes of the client; return the bytes to send to Redis, often the very same object."""
        if self._framer.between:
            # Nearly every chunk is one command, or some that are of no interest; nearly all of Asynq's call a script.
            seen = self._look_at(data, _SPECIAL_NAMES, self._untouched, self._shared.rewriter.polls)
            if type(seen) is int:
                self.commands += seen
                return data
            if type(seen) is bytes:
                self.commands += 1
                return seen
            if type(seen) is list and seen[0] in EVALSHA:
                out = self._lone_evalsha(data, seen)
                if out:
                    return out
        data, commands, start = self._framer.feed(data)
        for position, command in enumerate(commands):
            # An empty command ("*0") gets no reply; one that starts with something else than a bulk string is
            # refused by Redis, which then hangs up.
            if command and type(command[0]) is bytes:
                if command[0].upper() in _SPECIAL:
                    return self._work(data, start, commands, position)
                self.commands += 1
        return data

    def resume(self) -> bytes:
        """Go on with a batch after the activation it waited for, whatever its end; return what to send."""
        script, self.waiting_for = self.waiting_for, None
        return self._continue(activated=script)

    def receive_upstream(self, data: bytes) -> None:
        """Take note of bytes of Redis, which go to the client as they are."""
        if not self._counting:
            return
        count = count_replies(data) if self._replies.between else 0
        if count and not self._pending:  # nearly always
            self.replies += count
            return
        due = self._pending and self._pending[0][0] <= self.replies + count
        if count and (count == 1 or not due):
            self.replies += count
            if due:
                _, decision, database, start_ns = self._pending.popleft()
                self._settle(decision, database, start_ns, data[: data.find(b"\n") + 1][:MAX_HEAD_BYTES])
            return
        count = self._replies.feed(data)
        if self._pending:
            heads = self._replies.heads
            while self._pending and self._pending[0][0] <= self.replies + count:
                number, decision, database, start_ns = self._pending.popleft()
                self._settle(decision, database, start_ns, heads[number - self.replies - 1])
        self.replies += count
        if self._replies.lost:
            self._stop_counting()

    def give_back(self) -> None:
        """Give back the room of a large command that has gone on."""
        if self.waiting_for is None and self._framer.held_bytes < HOLD_BYTES:
            self._shared.room.give_back(self.taken_bytes)
            self.taken_bytes = 0

    def close(self) -> None:
        """Tell about decisions whose replies will never come, and hold nothing any more."""
        self._stop_counting()
        self._shared.room.give_back(self.taken_bytes)
        self.taken_bytes = 0

    def _lone_evalsha(self, data: bytes, command: Command) -> bytes:
        """Return what to send for a call of a script that is all of a chunk; nothing where it has to wait.

        In a poll only the SHA changes, which is as long as the other; what it becomes is remembered.
        """
        keys = _numkeys(command)
        if keys <= 0:  # Redis refuses it, or it concerns no task
            self.commands += 1
            return data
        script = self._shared.registry.get(command[1])
        if script is None:
            # Redis may know for long what this sidecar has never seen, such as the script that enqueues.
            if terminal_queue(command[3 : 3 + keys]) is None:
                self.commands += 1
                return data
        elif script.kind is _DEQUEUE and script.status is Status.ACTIVE:
            rewriter = self._shared.rewriter
            live = rewriter.polled(script, command)
            if live is not None:
                self.commands += 1
                beginning = beginning_of(data, command, 3 + keys)
                at = beginning.find(b"\n") + _SHA_OFFSET
                instead = beginning[:at] + script.wrapper_sha + beginning[at + 40 :] if live else beginning
                rewriter.remember_poll(beginning, instead)
                return instead + data[len(beginning) :]
        changed, waiting = self._look(command, None)
        if waiting is not None:
            return b""
        return data if changed is None else encode(changed)

    # --- commands that need a look -------------------------------------------------------------------------

    def _work(self, data: bytes, start: int, commands: list[Command], position: int) -> bytes:
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
                self.commands += 1  # the beginning of a large command that is let through
                if _SPECIAL.get(command[0].upper()) is Session._uncountable:
                    self._stop_counting()
                break
            original = _encoded(command)
            if not original or not self._raw.startswith(original, ahead):
                # Not the one plain form of a command, so it is not certain that Redis sees the same one.
                self._framer.give_up()
                break
            changed, self.waiting_for = self._look(command, activated)
            if self.waiting_for is not None:
                break
            self._rest.popleft()
            activated = None
            if changed is None:
                ahead += len(original)
            else:
                self._out += (self._raw[:ahead], encode(changed))
                self._raw = self._raw[ahead + len(original) :]
                ahead = 0
        if self.waiting_for is None:
            ahead = len(self._raw)
            self._rest.clear()
        out = b"".join((*self._out, self._raw[:ahead])) if self._out else self._raw[:ahead]
        self._raw = self._raw[ahead:]
        self._out = []
        return out

    def _look(self, command: Command, activated: Script | None) -> tuple[Command | None, Script | None]:
        """Decide about one command.

        Args:
            command: the command.
            activated: the script whose activation was just tried for it, with whatever success.

        Returns:
            The command to send instead, or None to send it as it came; and the script that has to be
            activated before that can be said.
        """
        if not command:
            return None, None  # "*0": Redis skips it without a reply
        self.commands += 1
        handler = _SPECIAL.get(command[0].upper())
        if handler is None:
            return None, None
        try:
            changed, script = handler(self, command, activated)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the sidecar, the command goes on
            self._fail_open(FailOpen.INTERNAL, f"{type(error).__name__}: {error}")
            return None, None
        if script is not None:
            self.commands -= 1
        return changed, script

    def _evalsha(self, command: Command, activated: Script | None) -> tuple[Command | None, Script | None]:
        keys = _numkeys(command)
        if keys <= 0:
            return None, None
        script = self._shared.registry.get(command[1])
        if script is not None:
            return self._call(script, script.wrapper_sha, command, keys, activated)
        if self._in_multi or not self._shared.rewriter.concerns(terminal_queue(command[3 : 3 + keys])):
            return None, None
        if command[1].lower() in self._asked:
            # Redis has the script and the client knows it, so it may not have the text at hand any more.
            detail = f"script {command[1].decode('latin-1')}"
            self._fail_open(FailOpen.UNSEEN, detail, keys=command[3 : 3 + keys])
            return None, None
        return [command[0], IMPOSSIBLE_SHA, *command[2:]], None

    def _eval(self, command: Command, activated: Script | None) -> tuple[Command | None, Script | None]:
        keys = _numkeys(command)
        if keys < 0:
            return None, None
        script = self._learn(command[1])
        if keys == 0:
            return None, None
        if script.flushed and script is not activated and not self._shared.rewriter.off:
            return None, script
        return self._call(script, script.wrapper, command, keys, activated)

    def _script(self, command: Command, activated: Script | None) -> tuple[Command | None, Script | None]:
        name = command[1].upper() if len(command) > 1 else b""
        if name == b"LOAD" and len(command) == 3:
            script = self._learn(command[2])
            # Whoever loads a script may call it without a text to fall back to, so its wrapper is loaded too, even
            # if that was done before: whether Redis still has it is not known.
            wanted = script.wrapper and script.status is not Status.BROKEN and not self._shared.rewriter.off
            return None, script if wanted and script is not activated else None
        if name == b"EXISTS":
            self._asked.update(sha.lower() for sha in command[2 : 2 + MAX_ASKED - len(self._asked)])
            for sha in command[2:]:
                self._shared.registry.doubted(sha)
            self._shared.rewriter.polls.clear()
        if name == b"FLUSH":
            self._shared.registry.flushed()
        return None, None

    def _learn(self, text: bytes) -> Script:
        script = self._shared.registry.learn(text)
        if script.kind is Kind.UNKNOWN and not self._shared.rewriter.off:
            self._fail_open(FailOpen.SHAPE, "it writes a terminal state in an unknown way", script)
        elif script.crowded_out and not self._shared.rewriter.off:
            self._fail_open(FailOpen.SCRIPTS, f"there are {MAX_WRAPPED} others", script)
        return script

    def _call(
        self, script: Script, name: bytes, command: Command, keys: int, activated: Script | None
    ) -> tuple[Command | None, Script | None]:
        """Decide about the call of a learnt script; `name` is what calls its wrapper instead."""
        try:
            rewrite = self._shared.rewriter.rewrite(script, command, keys) if script.wrapper else None
        except NotUnderstood as error:
            self._fail_open(error.reason, str(error), script, command[3 : 3 + keys])
            return None, None
        if rewrite is None:
            return None, None
        if rewrite.enforced and script.status is not Status.ACTIVE:
            return None, self._inactive(script, activated, command[3 : 3 + keys])
        if rewrite.decision is not None:
            self._await_reply(rewrite.decision)
        return (_rewritten(rewrite, name, command, keys) if rewrite.enforced else None), None

    def _inactive(self, script: Script, activated: Script | None, keys: Sequence[bytes]) -> Script | None:
        """Return a script whose wrapper has to be activated; None, and tell why, where that is in vain."""
        if script.status is Status.NEW and script is not activated:
            return script
        reason = FailOpen.COMPILE if script.status is Status.BROKEN else FailOpen.ACTIVATION
        self._fail_open(reason, "its wrapper is not loaded", script, keys)
        return None

    # --- commands that change the state of the connection ---------------------------------------------------

    def _multi(self, _command: Command, _activated: Script | None) -> tuple[None, None]:
        self._in_multi = True
        return None, None

    def _end_multi(self, _command: Command, _activated: Script | None) -> tuple[None, None]:
        self._in_multi = False
        return None, None

    def _select(self, command: Command, _activated: Script | None) -> tuple[None, None]:
        if len(command) == 2 and command[1].isdigit():
            self.database = int(command[1][:10])
            if len(self._shared.databases) < MAX_DATABASES:
                self._shared.databases.add(self.database)
        return None, None

    def _login(self, command: Command, _activated: Script | None) -> tuple[Command | None, None]:
        return (self._shared.login(command) if self._shared.login is not None else None), None

    def _reset(self, _command: Command, _activated: Script | None) -> tuple[None, None]:
        self._in_multi = False
        self.database = 0
        return None, None

    def _uncountable(self, _command: Command, _activated: Script | None) -> tuple[None, None]:
        self._stop_counting()
        return None, None

    def _client(self, command: Command, _activated: Script | None) -> tuple[None, None]:
        if len(command) > 1 and command[1].upper() == b"REPLY":
            self._stop_counting()
        return None, None

    def _cluster(self, command: Command, _activated: Script | None) -> tuple[None, None]:
        if len(command) > 1 and command[1].upper() in _TOPOLOGY:
            self._shared.observer.clustered(redirected=False)
        return None, None

    # --- decisions and their replies ------------------------------------------------------------------------

    def _await_reply(self, decision: Decision) -> None:
        now = self._shared.clock()
        if self.replies >= self.commands:  # Redis has said more than it was asked
            self._stop_counting()
        if self._counting and len(self._pending) < MAX_PENDING:
            self._pending.append((self.commands, decision, self.database, now))
        else:
            self._settle(decision, self.database, now, b"")

    def _settle(self, decision: Decision, database: int, start_ns: int, reply: bytes) -> None:
        # NOSCRIPT is no answer: the client sends the text next, and that is decided about again.
        if not reply.startswith(b"-NOSCRIPT"):
            outcome = Outcome(decision, database, start_ns, self._shared.clock(), reply.rstrip(b"\r\n"))
            self._shared.observer.settled(outcome)
            if reply.startswith((b"-MOVED ", b"-ASK ")):
                self._shared.observer.clustered(redirected=True)

    def _fail_open(
        self, reason: FailOpen, detail: str, script: Script | None = None, keys: Sequence[bytes] = ()
    ) -> None:
        """Tell of a command that goes on untouched; `keys` are its KEYS where they are known."""
        kind, sha = (script.kind.value, script.sha.decode()) if script is not None else ("", "")
        failure = FailedOpen(reason, detail, self._shared.clock(), kind, sha, *subject_of(keys))
        self._shared.observer.failed_open(failure)

    def _stop_counting(self) -> None:
        self._counting = False
        while self._pending:
            _, decision, database, start_ns = self._pending.popleft()
            self._settle(decision, database, start_ns, b"")

    def _must_hold(self, head: Command, size: int) -> bool:
        """Say whether a large command must be seen whole: a script that is or may have to be rewritten."""
        try:
            if not self._may_be_rewritten(head):
                return False
        except Exception as error:  # noqa: BLE001 - as in _look
            self._fail_open(FailOpen.INTERNAL, f"{type(error).__name__}: {error}")
            return False
        # It is asked again before there are twice as many.
        more = max(2 * size - self.taken_bytes, 0)
        if size >= MAX_HELD_BYTES or not self._shared.room.take(more):
            why = "" if size >= MAX_HELD_BYTES else ", and there is no room for more: see --max-held-mib"
            self._fail_open(FailOpen.SIZE, f"a script call of more than {size} bytes{why}")
            return False
        self.taken_bytes += more
        return True

    def _may_be_rewritten(self, head: Command) -> bool:
        name = head[0].upper() if head else b""
        if name in (b"EVAL", b"SCRIPT"):
            return True
        if name != b"EVALSHA" or len(head) < 3:
            return name == b"EVALSHA"
        script = self._shared.registry.get(head[1])
        if script is not None:
            return bool(script.wrapper)
        keys = int(head[2]) if head[2].isdigit() and len(head[2]) < 4 else 0
        return len(head) < 3 + keys or self._shared.rewriter.concerns(terminal_queue(head[3 : 3 + keys]))


def _rewritten(rewrite: Rewrite, name: bytes, command: Command, keys: int) -> Command:
    """Return the command that calls a wrapper instead of its script."""
    changed = [command[0], name, *command[2:]]
    for number, value in rewrite.argv:
        changed[2 + keys + number] = value
    if rewrite.tail is not None:
        changed.append(rewrite.tail)
    return changed


def _encoded(command: Command) -> bytes:
    """Return the plain form of a command; nothing where it has none (its elements are no bulk strings)."""
    try:
        return encode(command)
    except TypeError:
        return b""


def _numkeys(command: Command) -> int:
    """Return the number of KEYS of an EVAL or EVALSHA; -1 where Redis will refuse it."""
    if len(command) < 3 or not command[2].isdigit() or len(command[2]) > 10:
        return -1
    keys = int(command[2])
    if command[2][0] == _ZERO and len(command[2]) > 1:  # Redis takes no leading zeros
        return -1
    return keys if keys <= len(command) - 3 else -1


_ZERO = ord("0")
_DEQUEUE = Kind.DEQUEUE
# From the end of the first line ("*9") to the SHA: the rest of "$7", the name, "$40", and their line ends.
_SHA_OFFSET = len(b"\n$7\r\nEVALSHA\r\n$40\r\n")

# By these a client learns where the nodes of a cluster are.
_TOPOLOGY = (b"SLOTS", b"SHARDS", b"NODES")

_Handler = Callable[[Session, Command, Script | None], tuple[Command | None, Script | None]]
_SPECIAL: dict[bytes, _Handler] = {
    b"EVALSHA": Session._evalsha,  # noqa: SLF001 - the table of the class's own methods
    b"EVAL": Session._eval,  # noqa: SLF001
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
    **dict.fromkeys(
        (
            b"SUBSCRIBE",
            b"PSUBSCRIBE",
            b"SSUBSCRIBE",
            b"UNSUBSCRIBE",
            b"PUNSUBSCRIBE",
            b"SUNSUBSCRIBE",
            b"MONITOR",
            b"SYNC",
            b"PSYNC",
            b"REPLCONF",
        ),
        Session._uncountable,  # noqa: SLF001
    ),
}
_SPECIAL_NAMES = frozenset(_SPECIAL)
