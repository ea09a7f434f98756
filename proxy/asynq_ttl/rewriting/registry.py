"""The scripts that the sidecar has learnt, and how far the wrapper of each has come. Pure.

A script is learnt from its text, when a client sends that. What becomes of its wrapper others find out and tell: the
control connection, which loads it, and sessions, whose clients ask for scripts or flush them.

Invariants:

* Nobody else changes a script. What can happen to one, and what it is afterwards:

    status   activated   refused   doubted   flushed
    NEW      ACTIVE      BROKEN    NEW       NEW
    ACTIVE   ACTIVE      BROKEN    NEW       ACTIVE, to be loaded anew before the next EVAL
    BROKEN   ACTIVE      BROKEN    BROKEN    BROKEN

* Whoever remembers what a call becomes forgets it when `ScriptRegistry.changes` has grown.
* Each node of a cluster has a registry of its own, since each has a script cache of its own. What a script is, they all
  know as soon as one of them does; how far its wrapper has come at its node, each knows for itself.
"""

import hashlib
from dataclasses import dataclass, field
from enum import Enum

from asynq_ttl.asynq.script_shape import Kind, Shape, classify
from asynq_ttl.rewriting.wrappers import wrap

# Limits on what learning remembers. Real Asynq has about 50 scripts a version; whoever makes scripts up as
# they go along must not grow the sidecar. Past the limits a script is forwarded untouched.
MAX_WRAPPED = 1_000
MAX_OTHERS = 10_000
MAX_TEXT_BYTES = 64 * 1024

# A SHA that no script can have (SHA-1 is hexadecimal): Redis answers NOSCRIPT, and the client sends the text.
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
        text: its text; empty where it is not wrapped.
        wrapper: its wrapper's text; empty where it is not wrapped.
        wrapper_sha: its wrapper's SHA; likewise.
        status: how far the wrapper has come.
        flushed: whether a client has emptied Redis's script cache since the wrapper was loaded.
        crowded_out: whether it is not wrapped because too many others are.
        least_keys: the KEYS that a call needs for every part of the shape to be there.
        least_args: the ARGV that it needs.
        kind: what it does, as in the shape.
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

    def __post_init__(self) -> None:
        self.kind = self.shape.kind
        parts = {name: getattr(self.shape, name) for name in Shape.__slots__}
        self.least_keys = max(number for name, number in parts.items() if name.endswith("_key"))
        self.least_args = max(number for name, number in parts.items() if name.endswith("_arg"))

    def elsewhere(self) -> "Script":
        """Return the same script as another node has it: with a wrapper that has not been tried there."""
        return Script(self.sha, self.shape, self.text, self.wrapper, self.wrapper_sha)

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
        untouched: those without a wrapper: their calls go as they came.
        changes: grows whenever the status of a script changes.
        all: the registries of all nodes, this one too.
    """

    def __init__(self, beside: "ScriptRegistry | None" = None) -> None:
        self.untouched: dict[bytes, Script] = {} if beside is None else beside.untouched
        self.changes = 0
        self._wrapped: dict[bytes, Script] = {}
        self.all: list[ScriptRegistry] = [] if beside is None else beside.all
        for script in () if beside is None else beside.wrapped():
            self._wrapped[script.sha] = script.elsewhere()
        self.all.append(self)

    def get(self, sha: bytes) -> Script | None:
        """Return a learnt script by its SHA (either case, as Redis takes it), or None."""
        found = self._wrapped.get(sha) or self.untouched.get(sha)
        if found is None and not sha.islower():
            sha = sha.lower()
            found = self._wrapped.get(sha) or self.untouched.get(sha)
        return found

    def learn(self, text: bytes) -> Script:
        """Return the script of a text, classified and wrapped if this is the first time it is seen."""
        sha = sha_of(text)
        known = self._wrapped.get(sha) or self.untouched.get(sha)
        if known is not None:
            return known
        shape = classify(text) if len(text) <= MAX_TEXT_BYTES else Shape(Kind.OTHER)
        wrapper = wrap(text, shape)
        if not wrapper or len(self._wrapped) >= MAX_WRAPPED:
            if len(self.untouched) >= MAX_OTHERS:
                self.untouched.pop(next(iter(self.untouched)))
            return self.untouched.setdefault(sha, Script(sha, shape, crowded_out=bool(wrapper)))
        script = Script(sha, shape, text, wrapper, sha_of(wrapper))
        for registry in self.all:
            registry.take(script if registry is self else script.elsewhere())
        return script

    def take(self, script: Script) -> None:
        """Take note of a script that is learnt, at this node or at another one."""
        self._wrapped[script.sha] = script

    def leave(self) -> None:
        """Learn nothing more from the others: the node of this registry is gone."""
        self.all.remove(self)

    def missing(self) -> tuple[Script, ...]:
        """Return the scripts whose wrappers are active at another node and not yet tried at this one."""
        others = [other for other in self.all if other is not self]
        return tuple(
            script
            for sha, script in self._wrapped.items()
            if script.status is Status.NEW and any(other.is_active(sha) for other in others)
        )

    def wrapped(self) -> tuple[Script, ...]:
        """Return the scripts that have a wrapper, in the order in which they were learnt."""
        return tuple(self._wrapped.values())

    def status_anywhere(self, sha: bytes) -> Status:
        """Return how far the wrapper of a script has come at the node at which it has come furthest."""
        found = {registry.wrapped_script(sha).status for registry in self.all}
        return next(status for status in (Status.ACTIVE, Status.BROKEN, Status.NEW) if status in found)

    def wrapped_script(self, sha: bytes) -> Script:
        """Return a script that has a wrapper, as it is at this node."""
        return self._wrapped[sha]

    def is_active(self, sha: bytes) -> bool:
        """Say whether a script is rewritten at this node."""
        return self._wrapped[sha].status is Status.ACTIVE

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
        script = self.get(sha)
        if script is not None and script.status is Status.ACTIVE:
            self.changes += script.become(Status.NEW, flushed=script.flushed)

    def flushed(self) -> None:
        """Take note that a client empties the script cache: before its next EVAL a wrapper is loaded anew."""
        for script in self._wrapped.values():
            self.changes += script.become(script.status, flushed=script.status is Status.ACTIVE)


def sha_of(text: bytes) -> bytes:
    """Return the name Redis gives a script: the SHA-1 of its text in lower-case hexadecimal digits."""
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
