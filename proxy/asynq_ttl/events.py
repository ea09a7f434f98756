"""What the sidecar decided about one command, as plain data: the one thing that traces, counters and logs tell of."""

from enum import Enum
from typing import NamedTuple


class Action(Enum):
    """What happens to the task key, by its name in telemetry."""

    TTL = "ttl"
    DELETE = "delete"
    PERSIST = "persist"
    KEEP = "keep"
    NONE = "none"

    __hash__ = object.__hash__  # there is one of each; Enum hashes the name, in Python, at every look-up


class Decision(NamedTuple):
    """One decision: a tuple, since each task that ends has one, and a frozen dataclass takes four times as long.

    Attributes:
        operation: complete, archive or run.
        script: the script's name for telemetry, such as `asynq.archive`.
        queue: the queue's name.
        task_id: the task; empty for a bulk operation.
        task_type: the task's type; empty where the command does not carry it.
        state: the state the task enters.
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


class FailOpen(Enum):
    """Why a command that might have been rewritten went to Redis as it came."""

    MESSAGE = "message"
    """The task message does not decode."""
    ARGUMENTS = "arguments"
    """The script's KEYS or ARGV are not what its text says."""
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
