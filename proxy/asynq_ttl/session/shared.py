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

_SHA_DIGITS = 40
# What is told whatever the KEYS are: they are not Asynq's, or the policy cannot be asked.
_ABOUT_ANY_KEYS = (FailOpen.PREFIX, FailOpen.POLICY, FailOpen.INTERNAL)


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
        self.registry.attend(self.rewriter.wants)

    def beside(self, registry: ScriptRegistry, observer: Observer) -> "Shared":
        """Return what the sessions of a node of the cluster share: all of this, but for the scripts and who is told."""
        return replace(self, registry=registry, observer=observer)

    def use(self, rewriter: Rewriter) -> None:
        """Decide by another policy from now on."""
        self.rewriter = rewriter
        self.registry.attend(rewriter.wants)

    def fail_open(
        self, reason: FailOpen, detail: str, script: Script | None = None, keys: Sequence[bytes] = (), sha: bytes = b""
    ) -> None:
        """Tell of a command that goes on untouched, unless its KEYS name no queue that the policy concerns.

        Args:
            reason: why.
            detail: what exactly, in words.
            script: the script that it calls, where that is known.
            keys: its KEYS, where they are known.
            sha: the SHA that it calls, where the script is not known.
        """
        queue, task_id = subject_of(keys)
        if keys and reason not in _ABOUT_ANY_KEYS and not self.rewriter.concerns(queue or None):
            return
        kind, sha = (script.kind.value, script.sha) if script is not None else ("", sha)
        known = sha.decode("latin-1")[:_SHA_DIGITS]
        self.observer.failed_open(FailedOpen(reason, detail, self.clock(), kind, known, queue, task_id))

    def fail_open_in_pieces(self, reason: FailOpen, detail: str, keys: Sequence[bytes]) -> None:
        """Tell of a large command that goes on in pieces; `keys` is what has come of its KEYS."""
        self.fail_open(reason, detail, keys=keys)
