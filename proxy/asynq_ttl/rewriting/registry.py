"""The scripts that the sidecar has learnt, and how far the wrapper of each has come. Pure.

A script is learnt from its text, when a client sends that. What becomes of its wrapper others find out and tell: the
control connection, which loads it, and sessions, whose clients ask for scripts or flush them.

Invariants:

* Nobody else changes a script. What can happen to one, and what it is afterwards:

    status   activated   refused   doubted   flushed
    NEW      ACTIVE      BROKEN    NEW       NEW
    ACTIVE   ACTIVE      BROKEN    NEW       ACTIVE, to be loaded anew before the next EVAL
    BROKEN   ACTIVE      BROKEN    BROKEN    BROKEN

* A script may have two wrappers: by its shape, and by effect, for calls that the text does not explain. The latter is
  made only when such a call is seen.
* A script of a kind that only some policies are about is wrapped under these only, and there only in the queues that a
  rule is about. What is known of other queues is forgotten with the policy.
* Whoever remembers what a call becomes forgets it when `ScriptRegistry.changes` has grown.
* Each node of a cluster has a registry of its own, since each has a script cache of its own. What a script is, they all
  know as soon as one of them does; how far its wrapper has come at its node, each knows for itself.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum

from asynq_ttl.asynq.keys import queue_of_key, queue_prefix
from asynq_ttl.asynq.script_shape import Kind, Shape, classify
from asynq_ttl.asynq.unclear_text import may_end_tasks
from asynq_ttl.rewriting.redis_clock import RedisClock
from asynq_ttl.rewriting.wrappers import wrap

# Limits on what learning remembers. Real Asynq has about 50 scripts a version; whoever makes scripts up as
# they go along must not grow the sidecar. Past the limits a script is forwarded untouched.
MAX_WRAPPED = 1_000
MAX_OTHERS = 10_000
MAX_UNCLEAR = 1_000
MAX_TEXT_BYTES = 64 * 1024

# A SHA that no script can have (SHA-1 is hexadecimal): Redis answers NOSCRIPT, and the client sends the text.
# Queues of which it is remembered that no rule is about them. Each is compared with, at every call.
MAX_PASSING = 16

BY_QUEUE = frozenset((Kind.DONE, Kind.ENQUEUE, Kind.RECORD))
"""The kinds that are wrapped only where the policy is about a queue, or about histories. Most of what Asynq sends is of
the first two; of the last one are logs of other programs too."""

IMPOSSIBLE_SHA = b"asynq-ttl-has-not-seen-this-script-yet.."


class Status(Enum):
    """How far a wrapper has come."""

    NEW = "new"
    """Made, not yet known to compile: the script is not to be rewritten."""
    ACTIVE = "active"
    """Redis compiled it; the script is rewritten."""
    BROKEN = "broken"
    """Redis refused to compile it (or the original): the script is never rewritten."""


@dataclass(slots=True, eq=False)
class Script:
    """A learnt script. Only its registry changes it.

    Attributes:
        sha: its SHA.
        shape: what it does, and with which KEYS and ARGV.
        text: its text; empty where it is not wrapped, and cannot be by effect.
        wrapper: its wrapper's text; empty where it is not wrapped.
        wrapper_sha: its wrapper's SHA; likewise.
        status: how far the wrapper has come.
        flushed: whether a client has emptied Redis's script cache since the wrapper was loaded.
        crowded_out: whether it is not wrapped because too many others are.
        least_keys: the KEYS that a call needs for every part of the shape to be there.
        least_args: the ARGV that it needs.
        kind: what it does, as in the shape.
        clock: that of the Redis which runs it.
    """

    sha: bytes
    shape: Shape
    text: bytes = field(default=b"", repr=False)
    wrapper: bytes = field(default=b"", repr=False)
    wrapper_sha: bytes = b""
    status: Status = Status.NEW
    flushed: bool = False
    crowded_out: bool = False
    least_keys: int = field(init=False)
    least_args: int = field(init=False)
    kind: Kind = field(init=False)
    clock: RedisClock = field(default_factory=RedisClock, init=False, repr=False)

    def __post_init__(self) -> None:
        self.kind = self.shape.kind
        parts = {name: getattr(self.shape, name) for name in Shape.__slots__}
        self.least_keys = max(number for name, number in parts.items() if name.endswith("_key"))
        self.least_args = max(number for name, number in parts.items() if name.endswith("_arg"))

    def elsewhere(self) -> "Script":
        """Return the same script as another node has it: with a wrapper that has not been tried there."""
        return Script(self.sha, self.shape, self.text, self.wrapper, self.wrapper_sha)

    def go_by(self, clock: RedisClock) -> None:
        """Take the clock of the Redis that runs it."""
        self.clock = clock

    def become(self, status: Status, *, flushed: bool = False) -> bool:
        """Take another status, as the registry has it; say whether anything is different from before."""
        before = self.status, self.flushed
        self.status, self.flushed = status, flushed
        return before != (status, flushed)


class ScriptRegistry:
    """The scripts of one Redis by their SHA. Shared by all sessions.

    Args:
        beside: the registry of another node of the same cluster; None where there is only one Redis.

    Attributes:
        untouched: those whose calls go as they came, as far as is said here; see `Untouched`.
        changes: grows whenever the status of a script changes.
        all: the registries of all nodes, this one too.
        clock: that of this node's Redis.
    """

    def __init__(self, beside: "ScriptRegistry | None" = None) -> None:
        self.changes = 0
        self.clock = RedisClock()
        self._wrapped: dict[bytes, Script] = {}
        self._by_effect: dict[bytes, Script] = {}
        """What was made of any script to go by effect."""
        self.untouched: dict[bytes, Untouched] = {} if beside is None else beside.untouched
        self._passing: dict[Kind, list[bytes]] = {} if beside is None else beside._passing  # noqa: SLF001 - as below
        """The kinds in `BY_QUEUE` that the policy in force is about, each with queues that no rule of it is about."""
        self._unclear: dict[bytes, Script] = {} if beside is None else beside._unclear  # noqa: SLF001 - one of its own kind
        """Those without a shape that may end a task all the same."""
        self.all: list[ScriptRegistry] = [] if beside is None else beside.all
        for script in () if beside is None else beside.wrapped():
            self._take(script.elsewhere())
        self.all.append(self)

    def get(self, sha: bytes) -> Script | None:
        """Return a learnt script by its SHA (either case, as Redis takes it), or None."""
        found = self._wrapped.get(sha) or self._by_effect.get(sha) or self._unclear.get(sha)
        if found is None and isinstance(untouched := self.untouched.get(sha), Script):
            return untouched
        return self.get(sha.lower()) if found is None and not sha.islower() and sha.lower() != sha else found

    def learn(self, text: bytes) -> Script:
        """Return the script of a text, classified and wrapped if this is the first time it is seen."""
        sha = sha_of(text)
        known = self.get(sha)
        if known is not None:
            return known
        self.untouched.pop(sha, None)  # it is unseen no longer
        small = len(text) <= MAX_TEXT_BYTES
        shape = classify(text) if small else Shape(Kind.OTHER)
        wrapper = wrap(text, shape)
        if wrapper and not self._full:
            return self._add_wrapped(Script(sha, shape, text, wrapper, sha_of(wrapper)))
        if not wrapper and small and (shape.kind is Kind.UNKNOWN or may_end_tasks(text)):
            return _add(self._unclear, Script(sha, shape, text), MAX_UNCLEAR)
        if wrapper:  # each call of it is one that cannot be rewritten
            return _add(self._unclear, Script(sha, shape, crowded_out=True), MAX_UNCLEAR)
        return _add(self.untouched, Script(sha, shape), MAX_OTHERS)

    def unseen(self, sha: bytes, kind: Kind | None = None, key: bytes = b"") -> None:
        """Take note of a call by a SHA whose text was never seen, as it is where Redis has served Asynq before.

        Args:
            sha: as the client wrote it. One that Redis would not write so is not remembered: should the text come,
                nobody would find that entry again.
            kind: the kind, of those that the policy is about, that its KEYS have the form of; None for none.
            key: then a key of the queue that is called about, which no rule is about.
        """
        if len(sha) != 40 or not sha.islower() or self.get(sha) is not None:
            return
        _make_room(self.untouched, MAX_OTHERS)
        if kind is None:
            self.untouched[sha] = None
        else:
            self.passes(kind, key)
            self.untouched[sha] = (self._passing[kind],)

    def attend(self, kinds: Collection[Kind]) -> None:
        """Take note of another policy.

        Args:
            kinds: those in `BY_QUEUE` that it is about.
        """
        self._passing.clear()
        self._passing.update({kind: [] for kind in kinds})
        for sha, known in tuple(self.untouched.items()):
            script = self._wrapped.get(sha)
            if script is not None:
                self.untouched[sha] = self._passing.get(script.kind, script)
            elif not isinstance(known, Script):
                del self.untouched[sha]  # what its KEYS can be about may be another matter now

    def passes(self, kind: Kind, key: bytes) -> None:
        """Take note that no rule wants scripts of a kind wrapped in a queue; `key` is one of that queue's."""
        prefix, passing = queue_prefix(queue_of_key(key) or ""), self._passing[kind]
        if prefix not in passing and len(passing) < MAX_PASSING:
            passing.append(prefix)

    def by_effect(self, script: Script) -> Script | None:
        """Return what a learnt script is with a wrapper that goes by effect.

        Returns:
            A script of the same SHA and text; None where too many are wrapped already, or where it cannot be wrapped.
        """
        found = self._by_effect.get(script.sha)
        if found is None:
            shape = Shape(Kind.BY_EFFECT)
            wrapper = wrap(script.text, shape) if script.text else b""
            if not wrapper or self._full:
                return None
            found = self._add_wrapped(Script(script.sha, shape, script.text, wrapper, sha_of(wrapper)))
            self._unclear.pop(script.sha, None)  # it need not be kept twice
        return found

    @property
    def _full(self) -> bool:
        return len(self._wrapped) + len(self._by_effect) >= MAX_WRAPPED

    def _add_wrapped(self, script: Script) -> Script:
        """Let all nodes know a script that has a wrapper; return it as it is at this one."""
        if script.kind in BY_QUEUE:
            _make_room(self.untouched, MAX_OTHERS)
            self.untouched[script.sha] = self._passing.get(script.kind, script)
        for registry in self.all:
            registry._take(script if registry is self else script.elsewhere())  # noqa: SLF001 - likewise
        return script

    def _take(self, script: Script) -> None:
        script.go_by(self.clock)
        self._alike(script)[script.sha] = script

    def _alike(self, script: Script) -> dict[bytes, Script]:
        """Return the scripts of this node that are wrapped as a script is: by effect, or by their shape."""
        return self._by_effect if script.kind is Kind.BY_EFFECT else self._wrapped

    def leave(self) -> None:
        """Learn nothing more from the others: the node of this registry is gone."""
        self.all.remove(self)

    def missing(self) -> tuple[Script, ...]:
        """Return the scripts whose wrappers are active at another node and not yet tried at this one."""
        return tuple(
            script
            for script in self.wrapped()
            if script.status is Status.NEW and self.status_anywhere(script) is Status.ACTIVE
        )

    def wrapped(self) -> tuple[Script, ...]:
        """Return the scripts that have a wrapper, in the order in which they got it; those by effect come last."""
        return (*self._wrapped.values(), *self._by_effect.values())

    def not_understood(self) -> tuple[Script, ...]:
        """Return the scripts that end tasks in a way that is not understood: those that go by effect, then the others.

        Their texts are kept, up to the limits above.
        """
        unclear = (script for script in self._unclear.values() if script.kind is Kind.UNKNOWN)
        return (*self._by_effect.values(), *unclear)

    def status_anywhere(self, script: Script) -> Status:
        """Return how far the wrapper of a script has come at the node at which it has come furthest."""
        found = {registry.as_here(script).status for registry in self.all}
        return next(status for status in (Status.ACTIVE, Status.BROKEN, Status.NEW) if status in found)

    def as_here(self, script: Script) -> Script:
        """Return a script that has a wrapper, from whichever node, as it is at this one."""
        return self._alike(script)[script.sha]

    def activated(self, script: Script) -> None:
        """Take note that Redis has compiled a script's wrapper and its original."""
        self.changes += script.become(Status.ACTIVE)

    def refused(self, script: Script) -> None:
        """Take note that Redis has refused to compile a script's wrapper or its original."""
        self.changes += script.become(Status.BROKEN)

    def doubted(self, sha: bytes) -> None:
        """Take note that a client asks whether Redis has a script.

        If it is told so, it may call the script without its text. Whether Redis still has the wrapper is not known, so
        that has to be loaded before the next call.
        """
        for script in (self.get(sha), self._by_effect.get(sha.lower())):
            if script is not None and script.status is Status.ACTIVE:
                self.changes += script.become(Status.NEW, flushed=script.flushed)

    def flushed(self) -> None:
        """Take note that a client empties the script cache: before its next EVAL a wrapper is loaded anew."""
        for script in self.wrapped():
            self.changes += script.become(script.status, flushed=script.status is Status.ACTIVE)


Untouched = Script | list[bytes] | tuple[list[bytes]] | None
"""Which calls of a script go as they came: all; or those whose first key starts with one of these prefixes, as its kind
is one that a rule is about in other queues. Of a script whose text was never seen: those whose KEYS concern no terminal
state (`keys.may_be_terminal`), for None; those of which both holds, for a tuple.
"""
_Scripts = dict[bytes, Script] | dict[bytes, Untouched]


def _add(scripts: _Scripts, script: Script, most: int) -> Script:
    """Remember a script beside others, of which the oldest is forgotten where there are as many as may be."""
    _make_room(scripts, most)
    scripts[script.sha] = script
    return script


def _make_room(scripts: _Scripts, most: int) -> None:
    if len(scripts) >= most:
        scripts.pop(next(iter(scripts)))


def sha_of(text: bytes) -> bytes:
    """Return the name Redis gives a script: the SHA-1 of its text in lower-case hexadecimal digits."""
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
