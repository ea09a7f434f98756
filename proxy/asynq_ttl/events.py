"""What happened, as plain data, and the protocols of those who are told.

Session, sweeper, control connection and relay tell; telemetry is told. Neither side knows the other: both import
this module, and nothing of each other. Pure.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, Protocol

from asynq_ttl.policy.rules import State


class Action(Enum):
    """What happens to the task key, by its name in telemetry."""

    TTL = "ttl"
    DELETE = "delete"
    PERSIST = "persist"
    KEEP = "keep"
    NONE = "none"
    REPLACED = "replaced"

    __hash__ = object.__hash__  # there is one of each; Enum hashes the name, in Python, at every look-up


class Decision(NamedTuple):
    """One decision: a tuple, since each task that ends has one, and a frozen dataclass takes four times as long.

    Attributes:
        operation: complete, archive, run or delete; end, where what becomes of a task is known inside Redis only;
            replace, where an enqueue has taken the place of an ended task; record, where a scheduler adds to a history.
        script: the script's name for telemetry, such as `asynq.archive`.
        queue: the queue's name; empty for a history.
        task_id: the task; empty for a bulk operation.
        task_type: the task's type; empty where the command does not carry it. For `replace`, the new one's.
        state: the state the task enters; for `end`, may enter: `ended` where that is either of the terminal ones. For
            `replace`, the state that the ended task was in.
        rule: the name of the rule that decided; empty where none did, or where the rule is picked in Redis.
        action: what happens to the key.
        ttl_seconds: time to live of the key; None where it gets none or it is picked in Redis.
        enforced: False where this was decided for show only (shadow mode, or outside the rollout's share).
        traceparent: the producer's W3C trace context, empty without.
        tracestate: its companion.
        size_bytes: the size of the task's message; 0 where the command does not carry it.
        own_seconds: for how long Asynq itself would keep the task in this state; None where that is not known.
        died_at: for archiving in bulk, the time of death that all the tasks get (Unix seconds), by which
            they can be found.
    """

    operation: str
    script: str
    queue: str
    state: str
    action: Action
    enforced: bool
    task_id: str = ""
    task_type: str = ""
    rule: str = ""
    ttl_seconds: int | None = None
    traceparent: str = ""
    tracestate: str = ""
    size_bytes: int = 0
    own_seconds: int | None = None
    died_at: int | None = None


FIRST_MARK: Final = 2
"""The lowest number that says which rule has replaced a task. An enqueue that adds one without that replies 1."""


class Enqueue(NamedTuple):
    """A task that is enqueued, where some rule replaces an ended one with its ID. Only Redis knows whether one does.

    Attributes:
        decision: what is told if one does; of which state the task was, and by which rule, is still open.
        choices: these two, by the mark that stands for them, from `FIRST_MARK` on.
        task_key: the task key.
        lock_key: the key of the uniqueness lock that it takes; empty without one.
        argument: the rules, as Lua gets them.
    """

    decision: Decision
    choices: tuple[tuple[str, str], ...]
    task_key: bytes
    lock_key: bytes
    argument: bytes

    def replaced(self, mark: int) -> Decision:
        """Return the decision for a mark."""
        state, rule = self.choices[mark - FIRST_MARK]
        return self.decision._replace(state=state, rule=rule)


class FailOpen(Enum):
    """Why a command that might have been rewritten went to Redis as it came."""

    MESSAGE = "message"
    """The task message does not decode."""
    ARGUMENTS = "arguments"
    """The script's KEYS or ARGV are not what its text says."""
    PREFIX = "prefix"
    """The script's keys begin otherwise than Asynq's: a fork with a prefix of its own."""
    POLICY = "policy"
    """The policy raised."""
    UNSEEN = "unseen"
    """The script's text was never seen, and the client is not certain to have it: it asked whether Redis does."""
    INTERNAL = "internal"
    """Something else in the sidecar raised."""
    SHAPE = "shape"
    """The script writes a terminal state in a way that is not understood."""
    SCRIPTS = "scripts"
    """There are as many wrapped scripts as are remembered."""
    COMPILE = "compile"
    """Redis refused to compile the wrapper."""
    ACTIVATION = "activation"
    """The wrapper could not be loaded in time."""
    SIZE = "size"
    """The command is too large to be held."""


Actions = tuple[tuple[str, int], ...]
"""How many tasks got which action: its name, or `gone` for tasks that are no longer there; and their number."""


class Outcome(NamedTuple):
    """A decision and what became of it.

    Attributes:
        decision: what was decided.
        database: the number of the Redis database.
        start_ns: when the command went to Redis, by the session's clock.
        end_ns: when the reply came.
        reply: the first line of the reply without its line end; empty where none could be told.
        actions: what became of the tasks of a bulk operation; empty where that is not known.
    """

    decision: Decision
    database: int
    start_ns: int
    end_ns: int
    reply: bytes
    actions: Actions = ()

    @property
    def moved(self) -> int | None:
        """How many tasks a script says it has moved; None where its reply is no number, or has a meaning of its own."""
        number = self.reply[1:]
        if (
            self.decision.operation in ("end", "replace")
            or not self.reply.startswith(b":")
            or not number.lstrip(b"-").isdigit()
        ):
            return None
        return max(int(number), 0)


class Observer(Protocol):
    """Who is told what a session does. Called on the data path: it must neither block nor raise."""

    def decided(self, outcome: Outcome) -> None:
        """Take note of a decision, once it is known what became of it."""

    def refused(self, enqueue: Enqueue, outcome: Outcome) -> None:
        """Take note of an enqueue whose ID or lock is taken, where a rule that is not enforced may say to replace.

        Args:
            enqueue: what was to be enqueued.
            outcome: its open decision, and the reply.
        """

    def clustered(self, *, redirected: bool) -> None:
        """Take note that a client was sent to another node of a cluster, or asked for its nodes."""

    def failed_open(self, failure: "FailedOpen") -> None:
        """Take note of a command that was forwarded untouched although it might have been rewritten."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What became of one page of an index.

    Attributes:
        database: the number of the Redis database.
        queue: the queue's name.
        state: the state whose index it is.
        examined: members looked at.
        due: task IDs removed because their time was over.
        ghosts: entries dropped because their hash was gone or belonged to another life of the ID.
        start_ns: when the page was asked for, nanoseconds since the epoch.
        end_ns: when the answer came.
        sink: who had taken the tasks over before; empty where nobody was to.
    """

    database: int
    queue: str
    state: State
    examined: int
    due: tuple[str, ...]
    ghosts: int
    start_ns: int
    end_ns: int
    sink: str = ""


@dataclass(frozen=True, slots=True)
class Adopted:
    """Tasks that had ended without a TTL, and were given one by a rule.

    Attributes:
        database: the number of the Redis database.
        queue: the queue's name.
        state: the state they are in.
        rule: the name of the rule that decided.
        ids: their IDs.
        ttl_seconds: how long their keys live now, at most.
        undated: of how many nobody knows when they ended, so that their retention began just now.
        enforced: False where nothing was changed (shadow mode).
        start_ns: when their page was asked for, nanoseconds since the epoch.
        end_ns: when the answer came.
    """

    database: int
    queue: str
    state: State
    rule: str
    ids: tuple[str, ...]
    ttl_seconds: int
    undated: int
    enforced: bool
    start_ns: int
    end_ns: int


class SweepObserver(Protocol):
    """Who is told what the sweeper does."""

    def swept(self, page: Swept) -> None:
        """Take note of a page."""

    def adopted(self, tasks: Adopted) -> None:
        """Take note of tasks that were adopted."""

    def repaired(self, queue: str, persisted: int, dropped: int) -> None:
        """Take note of TTLs taken off live tasks, and of active IDs without a task that were dropped."""

    def sweep_ended(self, seconds: float, error: str, refusals: int = 0) -> None:
        """Take note of the end of a round.

        Args:
            seconds: how long it took.
            error: why it did not come to its end; empty if it did.
            refusals: how often Redis has refused something at one place, while the rest was swept.
        """


@dataclass(frozen=True, slots=True)
class FailedOpen:
    """A command that was forwarded untouched although a rule might concern it.

    Attributes:
        reason: why.
        detail: what exactly, in words.
        at_ns: when, nanoseconds since the epoch.
        kind: the kind of the script it calls; empty where the script is not known.
        sha: the SHA of that script; likewise.
        queue: the queue its KEYS name; empty where they name none.
        task_id: the task they name; empty where they name none.
    """

    reason: FailOpen
    detail: str
    at_ns: int
    kind: str = ""
    sha: str = ""
    queue: str = ""
    task_id: str = ""


@dataclass(frozen=True, slots=True)
class Activated:
    """A wrapper that was loaded into Redis, or was not.

    Attributes:
        kind: the script's kind.
        sha: the script's SHA.
        wrapper_sha: its wrapper's SHA.
        start_ns: when loading began, nanoseconds since the epoch.
        end_ns: when it ended.
        error: why it failed; empty if it went well.
        refused: whether Redis refused to compile it, so that it will not be tried again.
    """

    kind: str
    sha: str
    wrapper_sha: str
    start_ns: int
    end_ns: int
    error: str = ""
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Happened:
    """Something about the sidecar itself.

    Attributes:
        kind: reload, activation, pause, resume, drain or log_level.
        at_ns: when, nanoseconds since the epoch.
        result: ok or error.
        detail: what exactly, in words.
    """

    kind: str
    at_ns: int
    result: str
    detail: str


Record = Outcome | Swept | Adopted | FailedOpen | Happened


SpanIds = tuple[int, int, object]
"""The trace ID of a span that is exported, its own ID, and the trace state."""


class LatencyObserver(Protocol):
    """Who is told what is measured."""

    @property
    def latest_span(self) -> SpanIds | None:
        """The latest span of a decision, the same object until there is another one; None for none."""

    def measured(self, nanoseconds: int, direction: str, span: SpanIds | None = None) -> None:
        """Take note of how long a chunk was held: `command` or `reply`; `span` is of a decision that it ended."""

    def loop_late(self, seconds: float) -> None:
        """Take note of how late the event loop came to a beat."""
