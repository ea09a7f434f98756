"""Conversations for tests: a client (downstream) and Redis (upstream) talk through a session; an observer listens.

The scripts they call are those of `small_scripts`.
"""

from collections.abc import Callable

from asynq_ttl.events import Decision, FailedOpen, FailOpen, Outcome
from asynq_ttl.policy.rules import Keep, Mode, Policy, Retention, Rule
from asynq_ttl.rewriting.registry import Script, ScriptRegistry, Status, sha_of
from asynq_ttl.rewriting.rewriter import Rewriter
from asynq_ttl.session.holding import Room
from asynq_ttl.session.session import Session
from asynq_ttl.session.shared import Shared
from asynq_ttl.wire.commands import Command, WholeCommands, encode
from support.task_message import encode_task

DAY = 86_400

MESSAGE = encode_task("mail", "1")
INDEX, TASK = b"asynq:{q}:completed", b"asynq:{q}:t:1"
PENDING, PAUSED, ACTIVE, LEASE = (b"asynq:{q}:" + name for name in (b"pending", b"paused", b"active", b"lease"))
GROUPS = b"asynq:{q}:groups"

WEEK = Rule("week", completed=Retention(Keep.TTL, 7 * DAY), archived=Retention(Keep.TTL, 7 * DAY))


def complete(
    script: bytes,
    *,
    name: bytes = b"EVALSHA",
    at: int = 2_000_000,
    task: bytes | None = None,
    task_id: str = "1",
    queue: str = "q",
) -> tuple[bytes, ...]:
    """Return the command by which a client completes a task.

    Args:
        script: the script's SHA, or its text for EVAL.
        name: the command.
        at: the score in the index of completed tasks.
        task: its message; one that fits if it is None.
        task_id: its ID.
        queue: its queue.
    """
    prefix = f"asynq:{{{queue}}}:"
    keys = f"{prefix}completed".encode(), f"{prefix}t:{task_id}".encode()
    message = encode_task("mail", task_id, queue) if task is None else task
    return (name, script, b"2", *keys, task_id.encode(), b"%d" % at, message)


def completed(script: bytes, *, name: bytes = b"EVALSHA", seconds: int = 7 * DAY) -> tuple[bytes, ...]:
    """Return what `complete` becomes where a rule says so many seconds and the grace is a minute."""
    score, ttl = b"%d" % (2_000_000 + seconds), b"?2000000 %d" % ((seconds + 60) * 1000)
    return (name, script, b"2", INDEX, TASK, b"1", score, MESSAGE, ttl)


def dequeue(script: bytes, *, name: bytes = b"EVALSHA") -> tuple[bytes, ...]:
    """Return the command by which a worker polls."""
    return (name, script, b"4", PENDING, PAUSED, ACTIVE, LEASE, b"1700000000", b"asynq:{q}:t:")


def run(script: bytes, *, name: bytes = b"EVALSHA") -> tuple[bytes, ...]:
    """Return the command by which an inspector runs a task again."""
    return (name, script, b"3", TASK, PENDING, GROUPS, b"1")


def pipeline(*commands: tuple[bytes, ...]) -> bytes:
    """Encode commands one after the other."""
    return b"".join(encode(command) for command in commands)


class Recorder:
    """An observer that remembers what it was told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.signs: list[str] = []
        self.failures: list[FailedOpen] = []

    def decided(self, outcome: Outcome) -> None:
        """Remember a decision."""
        self.outcomes.append(outcome)

    def clustered(self, *, redirected: bool) -> None:
        """Remember a sign of a cluster."""
        self.signs.append("redirect" if redirected else "topology")

    def failed_open(self, failure: FailedOpen) -> None:
        """Remember a command that was forwarded untouched."""
        assert failure.detail
        self.failures.append(failure)


class Conversation:
    """One connection: what a client sends, what Redis receives and replies, and what the observer is told.

    Args:
        rules: the policy's rules.
        mode: the policy's mode.
        database: the number of the database the connection starts with.
        others: a conversation of the same sidecar, whose scripts and room this one shares.
        login: says what goes to Redis for an AUTH or HELLO.
    """

    def __init__(
        self,
        *rules: Rule,
        mode: Mode = Mode.ENFORCE,
        database: int = 0,
        others: "Conversation | None" = None,
        login: Callable[[Command], Command | None] | None = None,
    ) -> None:
        self.observer = Recorder()
        self.now_ns = 0
        registry = others.registry if others else ScriptRegistry()
        policy = Policy(rules or (WEEK,), mode=mode, grace_seconds=60)
        room = others.shared.room if others else Room()
        rewriter = Rewriter(policy, set())
        shared = Shared(registry, rewriter, self.observer, self._clock, WholeCommands(), room=room, login=login)
        self.shared: Shared = shared
        self.session = Session(shared, database)

    def _clock(self) -> int:
        return self.now_ns

    @property
    def registry(self) -> ScriptRegistry:
        """The scripts learnt so far."""
        return self.shared.registry

    def knows(self, *texts: bytes) -> "Conversation":
        """Let the sidecar have learnt scripts whose wrappers are active."""
        for text in texts:
            self.registry.activated(self.registry.learn(text))
        return self

    def wrapper(self, text: bytes) -> bytes:
        """Return the wrapper of a script the sidecar has learnt."""
        return self._script(text).wrapper

    def wrapper_sha(self, text: bytes) -> bytes:
        """Return the SHA of the wrapper of a script the sidecar has learnt."""
        return self._script(text).wrapper_sha

    def _script(self, text: bytes) -> Script:
        script = self.registry.get(sha_of(text))
        assert script is not None
        return script

    def downstream_sends(self, *commands: tuple[bytes, ...]) -> bytes:
        """Let the client send commands in one piece; return what upstream receives."""
        return self.downstream_sends_bytes(pipeline(*commands))

    def downstream_sends_bytes(self, data: bytes, step: int = 0) -> bytes:
        """Let the client send bytes, in pieces of so many; return what upstream receives."""
        step = step or len(data)
        out = []
        for at in range(0, len(data), step):
            out.append(self.session.receive_downstream(data[at : at + step]))
            self.session.give_back()
        return b"".join(out)

    def activation_ends(self, status: Status) -> bytes:
        """End the activation the session waits for; return what upstream receives then."""
        script = self.session.waiting_for
        assert script is not None
        if status is Status.ACTIVE:
            self.registry.activated(script)
        elif status is Status.BROKEN:
            self.registry.refused(script)
        out = self.session.resume()
        self.session.give_back()
        return out

    def upstream_replies(self, *replies: bytes) -> None:
        """Let Redis reply in one piece."""
        self.session.receive_upstream(b"".join(replies))

    def told(self) -> list[tuple[str, bytes]]:
        """Return and forget what the observer was told: the action decided, and the reply."""
        outcomes, self.observer.outcomes = self.observer.outcomes, []
        return [(outcome.decision.action.value, outcome.reply) for outcome in outcomes]

    def complaints(self) -> list[FailOpen]:
        """Return and forget why commands were forwarded untouched."""
        failures, self.observer.failures = self.observer.failures, []
        return [failure.reason for failure in failures]

    def decisions(self) -> list[Decision]:
        """Return and forget the decisions the observer was told of."""
        outcomes, self.observer.outcomes = self.observer.outcomes, []
        return [outcome.decision for outcome in outcomes]
