"""The short way of a chunk: what goes to Redis for it is known from an earlier one, without a decision.

It decides nothing. Commands that no session is interested in, and calls of scripts without a wrapper, go as they came;
so do those of scripts whose texts were never seen, while their KEYS concern no terminal state, and those of scripts
that rules are about in other queues only. A poll becomes what such a poll became before. Any other command is handed
over, taken apart, so that nobody has to do that again. What is asked about every chunk also has a compiled answer
(`_fast_path.c`); where that was not built, the one here is used.

Invariants:

* What is remembered was decided by the policy in force, with every wrapper as it is now.
* Only chunks of whole commands in their one plain form are answered.
* The memory is bounded.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

from asynq_ttl.asynq.keys import may_be_terminal
from asynq_ttl.events import Decision
from asynq_ttl.rewriting.registry import Script, ScriptRegistry
from asynq_ttl.rewriting.remembered import Remembered
from asynq_ttl.rewriting.rewriter import Rewriter
from asynq_ttl.rewriting.terms import Alike, Terms
from asynq_ttl.wire.commands import Command, WholeCommands, encode, is_plain

try:
    from asynq_ttl.session._fast_path import recall as _compiled_recall
except ImportError:  # there was no C compiler when this was installed
    _compiled_recall = None  # type: ignore[assignment] # a function, or none

# Polls that are remembered, and how long the beginning of one may be. (Security limits.)
_MAX_POLLS = 2_000
_MAX_REMEMBERED_BYTES = 1_024
# Scripts of which it is remembered how they end tasks; clients have few of them, and may write a SHA in either case.
_MAX_ENDING = 50

_EVALSHA = (b"evalsha", b"EVALSHA")
_ZERO = ord("0")

Recalled = int | bytes | tuple[bytes, Decision] | tuple[Command, int] | None
_Endings = dict[bytes, Remembered]
_Recall = Callable[[bytes, AbstractSet[bytes], dict[bytes, Any], dict[bytes, bytes], _Endings], Recalled]


class Memory:
    """What polls and calls that end tasks become. Shared by all sessions.

    Nobody has to empty it. It knows by which policy it was filled, and how often the status of any wrapper had changed
    by then: when either is another one, it no longer `holds`.

    Args:
        registry: the scripts learnt so far.
        whole: decodes chunks where the compiled part is missing.
    """

    __slots__ = ("_changes", "_registry", "_rewriter", "_whole", "endings", "polls", "recall")

    def __init__(self, registry: ScriptRegistry, whole: WholeCommands) -> None:
        self.polls: dict[bytes, bytes] = {}
        """What a poll begins with, up to the last of its KEYS, and what stands there instead."""
        self.endings: _Endings = {}
        """By the SHA in the call, the calls of a script that ends tasks."""
        # An attribute, since it is asked for every chunk.
        self.recall: _Recall = _compiled_recall if _compiled_recall is not None else self._recall
        self._registry = registry
        self._whole = whole
        self._rewriter: Rewriter | None = None
        self._changes = registry.changes

    def holds(self, rewriter: Rewriter) -> bool:
        """Say whether what is remembered was decided by this rewriter, with every wrapper as it is now."""
        return self._rewriter is rewriter and self._changes == self._registry.changes

    def known(self, rewriter: Rewriter) -> tuple[dict[bytes, bytes], _Endings]:
        """Return what is remembered of polls and of endings, as far as it holds: nothing by another rewriter."""
        return (self.polls, self.endings) if self.holds(rewriter) else ({}, {})

    def remember(self, chunk: bytes, command: Command, keys: int, out: bytes, rewriter: Rewriter) -> None:
        """Remember what a call becomes, for all calls that begin with the same bytes up to the last of their KEYS.

        Only an EVALSHA is remembered, since nothing else is asked for.

        Args:
            chunk: the call as it came.
            command: the same, taken apart.
            keys: its number of KEYS.
            out: what goes to Redis instead; behind the KEYS it is what came.
            rewriter: who has decided that.
        """
        if command[0] not in _EVALSHA:
            return
        self._hold(rewriter)
        beginning = beginning_of(chunk, command, 3 + keys)
        if len(beginning) <= _MAX_REMEMBERED_BYTES and len(self.polls) < _MAX_POLLS:
            self.polls[beginning] = out[: len(out) - len(chunk) + len(beginning)]

    def remember_ending(
        self, script: Script, command: Command, keys: int, known: tuple[Alike, Terms], rewriter: Rewriter
    ) -> None:
        """Remember by which terms a task has ended.

        Args:
            script: the script that was called.
            command: the call.
            keys: its number of KEYS.
            known: the terms, and what such calls are told from others by.
            rewriter: who has decided that.
        """
        self._hold(rewriter)
        sha = command[1]
        calls = self.endings.get(sha)
        if calls is None:
            if len(self.endings) >= _MAX_ENDING:
                self.endings.clear()
            calls = self.endings[sha] = Remembered.of(script, len(command), keys)
        calls.remember(*known)

    def _hold(self, rewriter: Rewriter) -> None:
        """Forget all that does not hold any more; from now on what this rewriter has decided is remembered."""
        if not self.holds(rewriter):
            self.polls.clear()
            self.endings.clear()
            self._rewriter, self._changes = rewriter, self._registry.changes

    def _recall(
        self,
        chunk: bytes,
        special: AbstractSet[bytes],
        untouched: dict[bytes, Any],
        polls: dict[bytes, bytes],
        endings: _Endings,
    ) -> Recalled:
        """Say what goes to Redis for a chunk that holds whole commands in their one plain form and nothing else.

        Args:
            chunk: the chunk.
            special: names of commands that a session is interested in, in upper case; EVALSHA is one of them.
            untouched: SHAs of scripts whose calls go as they came, as far as their values say: `registry.Untouched`.
            polls, endings: as above.

        Returns:
            How many commands it is, all of which go as they came; or what to send instead of the one that it is; or
            that and what is told of it when it is answered; or the one taken apart, its arguments and its number of
            KEYS (see `numkeys`), if it has a special name and nothing is remembered of it; None for any other chunk.
        """
        commands = self._whole.decode(chunk) or []
        plain = bool(commands) and all(commands) and is_plain(commands, chunk)
        if plain and all(command[0].upper() not in special for command in commands):
            return len(commands)
        if not plain or len(commands) > 1:
            return None
        command = commands[0]
        evalsha = command[0] in _EVALSHA and len(command) > 2
        seen = untouched.get(command[1], False) if evalsha else False
        keys = numkeys(command)
        if seen is not False and _goes_as_it_came(seen, command[3 : 3 + keys] if keys > 0 else []):
            return 1
        ended = _ended(chunk, command, keys, endings) if evalsha and keys > 0 else None
        if ended is not None:
            return ended
        beginning = beginning_of(chunk, command, 3 + keys) if evalsha and keys >= 0 else b""
        if beginning in polls:
            return polls[beginning] + chunk[len(beginning) :]
        return command, keys


def _ended(chunk: bytes, command: Command, keys: int, endings: _Endings) -> tuple[bytes, Decision] | None:
    """Return what goes to Redis for a chunk that is a call, and what is told of it, where that is remembered."""
    calls = endings.get(command[1])
    if calls is None:
        return None
    try:
        known = calls.recall(command, keys)
    except Exception:  # noqa: BLE001 - whatever is wrong with what is remembered, it can be decided
        endings.clear()
        return None
    if known is None:
        return None
    changed, decision = known
    return (chunk if changed is None else encode(changed)), decision


def _goes_as_it_came(known: Any, keys: Command) -> bool:  # noqa: ANN401 - a value of `registry.Untouched`
    """Say whether a call with these KEYS goes as it came, by what is known of its script."""
    passing = known[0] if isinstance(known, tuple) else known
    if isinstance(passing, list) and not (keys and keys[0].startswith(tuple(passing))):
        return False
    return not (known is None or isinstance(known, tuple)) or (bool(keys) and not may_be_terminal(keys))


def beginning_of(chunk: bytes, command: Command, elements: int) -> bytes:
    """Return the bytes of a chunk, which is one command in its plain form, up to the end of so many of its elements."""
    rest = sum(len(b"$%d\r\n" % len(element)) + len(element) + 2 for element in command[elements:])
    return chunk[: len(chunk) - rest]


def numkeys(command: Command) -> int:
    """Return the number of KEYS of an EVAL or EVALSHA; -1 where Redis refuses it. Of other commands it says nothing."""
    if len(command) < 3 or not command[2].isdigit() or len(command[2]) > 10:
        return -1
    keys = int(command[2])
    if command[2][0] == _ZERO and len(command[2]) > 1:  # Redis takes no leading zeros
        return -1
    return keys if keys <= len(command) - 3 else -1
