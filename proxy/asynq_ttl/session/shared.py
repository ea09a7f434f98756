"""What all sessions of a sidecar share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from asynq_ttl.asynq.keys import subject_of
from asynq_ttl.events import FailedOpen, FailOpen, Observer
from asynq_ttl.rewriting.registry import Script, ScriptRegistry
from asynq_ttl.rewriting.rewriter import Rewriter
from asynq_ttl.session.fast_path import Memory
from asynq_ttl.session.holding import Room
from asynq_ttl.wire.commands import Command, WholeCommands


@dataclass(slots=True)
class Shared:
    """What all sessions of a sidecar share.

    Attributes:
        registry: the scripts learnt so far.
        rewriter: decides by the policy in force; replaced as a whole when the policy changes.
        observer: who is told.
        clock: nanoseconds since the epoch.
        whole: decodes chunks of whole commands.
        databases: the numbers of the Redis databases that clients have selected, and Redis has not refused.
        room: for what is held of large commands.
        login: says what goes to Redis for an AUTH or HELLO; None for what came. None where passwords are Redis's own.
        memory: what polls become.
    """

    registry: ScriptRegistry
    rewriter: Rewriter
    observer: Observer
    clock: Callable[[], int]
    whole: WholeCommands
    databases: set[int] = field(default_factory=set)
    room: Room = field(default_factory=Room)
    login: Callable[[Command], Command | None] | None = None
    memory: Memory = field(init=False)

    def __post_init__(self) -> None:
        self.memory = Memory(self.registry, self.whole)

    def beside(self, registry: ScriptRegistry) -> "Shared":
        """Return what the sessions of another node of the cluster share: all of this, but for the scripts."""
        return replace(self, registry=registry)

    def use(self, rewriter: Rewriter) -> None:
        """Decide by another policy from now on."""
        self.rewriter = rewriter

    def fail_open(
        self, reason: FailOpen, detail: str, script: Script | None = None, keys: Sequence[bytes] = ()
    ) -> None:
        """Tell of a command that goes on untouched.

        Args:
            reason: why.
            detail: what exactly, in words.
            script: the script that it calls, where that is known.
            keys: its KEYS, where they are known.
        """
        kind, sha = (script.kind.value, script.sha.decode()) if script is not None else ("", "")
        self.observer.failed_open(FailedOpen(reason, detail, self.clock(), kind, sha, *subject_of(keys)))
