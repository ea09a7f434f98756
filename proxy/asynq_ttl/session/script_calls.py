"""The one place where a script call is decided: EVALSHA, EVAL and SCRIPT, alone in a chunk or in a pipeline.

It must not know how commands come or go: a command in, an answer out.

Invariants:

* A call that is not fully understood goes as it came.
* A call is only rewritten while its wrapper is active: Redis has compiled it.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final

from asynq_ttl.asynq.keys import PREFIX, ended_queue, foreign_prefix
from asynq_ttl.asynq.script_shape import Kind
from asynq_ttl.events import Decision, Enqueue, FailOpen
from asynq_ttl.rewriting.call import NotUnderstood, Rewrite
from asynq_ttl.rewriting.registry import BY_QUEUE, IMPOSSIBLE_SHA, MAX_WRAPPED, Script, Status
from asynq_ttl.session.shared import Shared
from asynq_ttl.wire.commands import Command, encode

# SHAs that are remembered for a client. (Security limit.)
MAX_ASKED = 1_000


class Forward(Enum):
    """The answer to nearly every command."""

    AS_IT_CAME = "as it came"


FORWARD: Final = Forward.AS_IT_CAME
Answer = Forward | Command | Script
"""What becomes of a command. It goes as it came; or this command goes instead; or it waits for the activation of this
script's wrapper, whatever the end of that."""

_DEQUEUE = Kind.DEQUEUE
_ACTIVE = Status.ACTIVE
# A call that is not understood for one of these reasons goes by effect, if its KEYS allow it.
_LEFT_TO_EFFECT = (FailOpen.ARGUMENTS, FailOpen.MESSAGE)


class ScriptCalls:
    """Decides about the script calls of one client.

    Args:
        shared: what all sessions share.
        expect: told of each decision, whose reply is to be waited for.
        await_enqueue: told of each enqueue, whose reply says whether there is anything to tell; returns whether it will
            be heard.
    """

    __slots__ = ("_asked", "_await_enqueue", "_expect", "_shared", "in_transaction")

    def __init__(
        self, shared: Shared, expect: Callable[[Decision], None], await_enqueue: Callable[[Enqueue], bool]
    ) -> None:
        self.in_transaction = False
        """Whether the client is between MULTI and EXEC."""
        self._shared = shared
        self._expect = expect
        self._await_enqueue = await_enqueue
        # SHAs whose existence the client asked for.
        self._asked: set[bytes] = set()

    def begin_transaction(self) -> None:
        """Take note of MULTI."""
        self.in_transaction = True

    def end_transaction(self) -> None:
        """Take note of EXEC, or of what else ends a transaction."""
        self.in_transaction = False

    def evalsha(self, command: Command, keys: int, activated: Script | None, chunk: bytes) -> Answer:
        """Decide about an EVALSHA.

        Args:
            command: the whole command.
            keys: its number of KEYS; -1 where Redis refuses it.
            activated: the script whose activation was just tried for this command, with whatever success.
            chunk: the bytes of the command, if it is all of a chunk; empty otherwise.
        """
        if keys <= 0:  # Redis refuses it, or it concerns no task
            return FORWARD
        script = self._shared.registry.get(command[1])
        if script is None:
            return self._unknown(command, keys)
        return self._call(script, script.wrapper_sha, command, keys, activated, chunk=chunk)

    def eval(self, command: Command, keys: int, activated: Script | None) -> Answer:
        """Decide about an EVAL; the arguments are as for `evalsha`."""
        if keys < 0:
            return FORWARD
        script = self._shared.registry.learn(command[1])
        if keys == 0:
            return FORWARD
        if script.flushed and activated is None and not self._shared.rewriter.off:
            return script
        return self._call(script, script.wrapper, command, keys, activated)

    def script(self, command: Command, activated: Script | None) -> Answer:
        """Decide about a SCRIPT, which itself always goes as it came."""
        name = command[1].upper() if len(command) > 1 else b""
        if name == b"LOAD" and len(command) == 3:
            return self._load(command[2], activated)
        if name == b"EXISTS":
            self._asked.update(sha.lower() for sha in command[2 : 2 + MAX_ASKED - len(self._asked)])
            for sha in command[2:]:
                self._shared.registry.doubted(sha)
        elif name == b"FLUSH":
            self._shared.registry.flushed()
        return FORWARD

    def may_be_rewritten(self, head: Command) -> bool:
        """Say whether a command may have to be rewritten, by those of its arguments that have come so far."""
        name = head[0].upper() if head else b""
        if name in (b"EVAL", b"SCRIPT"):
            return True
        if name != b"EVALSHA" or len(head) < 3:
            return name == b"EVALSHA"
        script, rewriter = self._shared.registry.get(head[1]), self._shared.rewriter
        if script is not None and (script.wrapper or not script.text):
            return bool(script.wrapper) and (script.kind not in BY_QUEUE or script.kind in rewriter.wants)
        keys = int(head[2]) if head[2].isdigit() and len(head[2]) < 4 else 0
        if len(head) < 3 + keys:
            return True
        named = head[3 : 3 + keys]
        return rewriter.asks_for_text(named) if script is None else rewriter.concerns(ended_queue(named))

    def _unknown(self, command: Command, keys: int) -> Answer:
        """Decide about a script whose text was never seen. Redis may know it for long, as the one that enqueues.

        Where it may be one that ends a task, the client is made to send the text: by a SHA that no script has.
        """
        named, rewriter = command[3 : 3 + keys], self._shared.rewriter
        asks = rewriter.asks_for_text(named)
        if self.in_transaction or not asks:
            kind = rewriter.likely_kind(named)
            if not asks or kind is None:
                self._shared.registry.unseen(command[1], kind, named[0])
            return FORWARD
        if command[1].lower() in self._asked:
            # Redis has the script and the client knows it, so it may not have the text at hand any more.
            detail = "its text was never seen, and the client may not have it any more"
            self._shared.fail_open(FailOpen.UNSEEN, detail, keys=named, sha=command[1])
            return FORWARD
        return [command[0], IMPOSSIBLE_SHA, *command[2:]]

    def _load(self, text: bytes, activated: Script | None) -> Answer:
        """Have the wrapper loaded together with a script.

        Whoever loads a script may call it without a text to fall back to. So its wrapper is loaded even if that was
        done before: whether Redis still has it is not known.
        """
        script = self._shared.registry.learn(text)
        rewriter = self._shared.rewriter
        wanted = script.wrapper and script.status is not Status.BROKEN and not rewriter.off
        wanted = wanted and (script.kind not in BY_QUEUE or script.kind in rewriter.wants)
        return script if wanted and activated is None else FORWARD

    def _call(
        self, script: Script, name: bytes, command: Command, keys: int, activated: Script | None, *, chunk: bytes = b""
    ) -> Answer:
        """Decide about the call of a learnt script; `name` is what calls its wrapper instead."""
        if not script.wrapper or script.kind is Kind.BY_EFFECT:
            return self._call_by_effect(script, command, keys, activated)
        rewriter = self._shared.rewriter
        if script.kind in BY_QUEUE and script.kind not in rewriter.wants:
            return FORWARD
        try:
            rewrite = rewriter.rewrite(script, command, keys)
        except NotUnderstood as error:
            return self._call_by_effect(script, command, keys, activated, error)
        changed: Command | None = None
        if rewrite is None:
            if not command[3].startswith(PREFIX) and script.kind is not Kind.RECORD and not rewriter.off:
                detail = f"its keys begin with {foreign_prefix(command[3])}"
                self._shared.fail_open(FailOpen.PREFIX, detail, script, command[3 : 3 + keys])
            elif script.kind in BY_QUEUE and not rewriter.is_about(script.kind, command[3]):
                self._shared.registry.passes(script.kind, command[3])
        else:
            if rewrite.enforced:
                if script.status is not _ACTIVE:
                    return self._inactive(script, activated, command[3 : 3 + keys])
                changed = _rewritten(rewrite, name, command, keys)
            if rewrite.decision is not None:
                self._expect(rewrite.decision)
            # Its reply is not the client's: where nobody can take it out, nothing is replaced.
            elif rewrite.enqueue is not None and (self.in_transaction or not self._await_enqueue(rewrite.enqueue)):
                return FORWARD
        if chunk:
            self._remember(script, chunk, command, keys, rewrite, changed)
        return FORWARD if changed is None else changed

    def _remember(  # noqa: PLR0917 - a call, and all that has become of it
        self,
        script: Script,
        chunk: bytes,
        command: Command,
        keys: int,
        rewrite: Rewrite | None,
        changed: Command | None,
    ) -> None:
        """Remember what has become of a call that is all of a chunk, where others come to the same."""
        memory, rewriter = self._shared.memory, self._shared.rewriter
        if script.kind is _DEQUEUE:
            # What becomes of a poll depends on nothing but its KEYS and the number of its arguments.
            out = encode(changed) if changed is not None else chunk
            memory.remember(chunk, command, keys, out, rewriter)
        elif rewrite is not None and rewrite.terms is not None:
            memory.remember_ending(script, command, keys, rewrite.terms, rewriter)

    def _call_by_effect(
        self, script: Script, command: Command, keys: int, activated: Script | None, why: NotUnderstood | None = None
    ) -> Answer:
        """Decide about a call that its script's text does not explain; `why` is what it fails by, if it has a shape."""
        named = command[3 : 3 + keys]
        rewrite = None
        if script.text and (why is None or why.reason in _LEFT_TO_EFFECT):
            try:
                rewrite = self._shared.rewriter.rewrite_by_effect(named)
            except NotUnderstood as error:
                why = error
        if rewrite is None:
            if why is None and script.crowded_out:
                why = NotUnderstood(FailOpen.SCRIPTS, f"there are {MAX_WRAPPED} others")
            elif why is None and script.kind is Kind.UNKNOWN:
                why = NotUnderstood(FailOpen.SHAPE, "it writes a terminal state in an unknown way")
            if why is not None and not self._shared.rewriter.off:
                self._shared.fail_open(why.reason, str(why), script, named)
            return FORWARD
        changed: Command | None = None
        if rewrite.enforced:
            by_effect = self._shared.registry.by_effect(script)
            if by_effect is None:
                self._shared.fail_open(FailOpen.SCRIPTS, f"there are {MAX_WRAPPED} others", script, named)
                return FORWARD
            whole = command[0].upper() == b"EVAL"
            if whole and by_effect.flushed and activated is None:
                return by_effect
            if by_effect.status is not _ACTIVE:
                return self._inactive(by_effect, activated, named)
            changed = _rewritten(rewrite, by_effect.wrapper if whole else by_effect.wrapper_sha, command, keys)
        if rewrite.decision is not None:
            self._expect(rewrite.decision)
        return FORWARD if changed is None else changed

    def _inactive(self, script: Script, activated: Script | None, keys: Sequence[bytes]) -> Answer:
        """Wait for a wrapper; go on without it, and tell why, where that is in vain."""
        if script.status is Status.NEW and script is not activated:
            return script
        reason = FailOpen.COMPILE if script.status is Status.BROKEN else FailOpen.ACTIVATION
        self._shared.fail_open(reason, "its wrapper is not loaded", script, keys)
        return FORWARD


def _rewritten(rewrite: Rewrite, name: bytes, command: Command, keys: int) -> Command:
    """Return the command that calls a wrapper instead of its script."""
    changed = [command[0], name, *command[2:]]
    for number, value in rewrite.argv:
        changed[2 + keys + number] = value
    if rewrite.tail is not None:
        changed.append(rewrite.tail)
    return changed
