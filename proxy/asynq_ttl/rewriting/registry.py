"""Scripts the sidecar has learnt, and the wrappers it makes of them.

A wrapper is one Lua text: prologue, the original as a function that is called at once, epilogue. The original
runs unchanged, with its own KEYS and ARGV and the line numbers it had; its reply is the wrapper's reply; if
it raises, the wrapper raises and the epilogue never runs. What the wrapper adds uses `redis.pcall`, so an ACL
that denies it cannot fail the task. Policy travels as the last argument, so a wrapper's SHA does not change
when the policy does.

The parts are in `lua/`. In them `KEYS[task_key]` and the like stand for the positions in the `Shape`.
"""

import hashlib
import re
from dataclasses import dataclass, field
from enum import Enum

from asynq_ttl.asynq.script_shape import Kind, Shape, classify
from asynq_ttl.lua.loader import load_on_one_line

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
    """A learnt script.

    `wrapper` is empty where the script is not wrapped; `crowded_out` says that this is since there are too many.
    `flushed` says that a client emptied Redis's script cache since the wrapper was loaded. A call needs `least_keys`
    KEYS and `least_args` ARGV for every part of the shape to be there.
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
    plain_keys: bytes = field(init=False)
    plain_length: int = field(init=False)
    kind: Kind = field(init=False)

    def __post_init__(self) -> None:
        self.kind = self.shape.kind
        parts = {name: getattr(self.shape, name) for name in Shape.__slots__}
        self.least_keys = max(number for name, number in parts.items() if name.endswith("_key"))
        self.least_args = max(number for name, number in parts.items() if name.endswith("_arg"))
        self.plain_keys = b"%d" % self.least_keys
        self.plain_length = 3 + self.least_keys + self.least_args


class ScriptRegistry:
    """The scripts of one Redis by their SHA. Shared by all sessions."""

    def __init__(self) -> None:
        self._wrapped: dict[bytes, Script] = {}
        self.untouched: dict[bytes, Script] = {}
        """Those without a wrapper: their calls go as they came."""
        self.changes = 0
        """How often the status of any script has changed: what was concluded from it may no longer hold."""

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
        return self._wrapped.setdefault(sha, script)

    def flush(self) -> None:
        """Take note that a client empties the script cache: before its next EVAL a script is loaded anew."""
        for script in self._wrapped.values():
            script.flushed = script.status is Status.ACTIVE
        self.changes += 1

    def wrapped(self) -> tuple[Script, ...]:
        """Return the scripts that have a wrapper, in the order in which they were learnt."""
        return tuple(self._wrapped.values())


def sha_of(text: bytes) -> bytes:
    """Return the name Redis gives a script: the SHA-1 of its text in lower-case hexadecimal digits."""
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


def wrap(text: bytes, shape: Shape) -> bytes:
    """Return the wrapper of a script, or nothing where its kind has none.

    A shebang (`#!lua ...`, Redis 7) stays the first line.
    """
    shebang = text[: text.find(b"\n") + 1] if text.startswith(b"#!") else b""
    if shape.kind not in _PARTS or (text.startswith(b"#!") and not shebang):
        return b""
    prologues, epilogues = _PARTS[shape.kind]
    before = b"".join(_part(name, shape) + b" " for name in prologues)
    after = b"".join(_part(name, shape) + b" " for name in epilogues)
    # The prologue stays on the original's first line, so that line numbers in error messages stay the same.
    original = b"local asynq_ttl_reply = (function() " + text[len(shebang) :] + b"\nend)() "
    return shebang + before + original + after + b"return asynq_ttl_reply"


_PARTS: dict[Kind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Kind.COMPLETE: (
        ("wrappers/clock.prologue", "wrappers/complete.prologue"),
        ("wrappers/ended.epilogue", "wrappers/complete.epilogue"),
    ),
    Kind.ARCHIVE: (
        ("wrappers/clock.prologue", "shared/states.prologue", "wrappers/archive.prologue", "wrappers/trim.prologue"),
        ("wrappers/ended.epilogue", "wrappers/archive.epilogue"),
    ),
    Kind.ARCHIVE_ONE: (
        (
            "wrappers/clock.prologue",
            "shared/states.prologue",
            "wrappers/trim.prologue",
            "wrappers/rules.prologue",
            "wrappers/archive_one.prologue",
        ),
        ("wrappers/archive_one.epilogue",),
    ),
    Kind.ARCHIVE_ALL: (
        (
            "wrappers/clock.prologue",
            "shared/states.prologue",
            "wrappers/trim.prologue",
            "wrappers/rules.prologue",
            "wrappers/archive_all.prologue",
        ),
        ("wrappers/archive_all.epilogue",),
    ),
    Kind.RUN_ONE: ((), ("wrappers/run_one.epilogue",)),
    Kind.RUN_ALL: (("shared/states.prologue", "wrappers/run_all.prologue"), ("wrappers/run_all.epilogue",)),
    Kind.DELETE_ALL: (("shared/states.prologue", "wrappers/run_all.prologue"), ()),
    Kind.DEQUEUE: ((), ("wrappers/dequeue.epilogue",)),
    Kind.DEQUEUE_TIMED: (("wrappers/dequeue_timed.prologue",), ("wrappers/dequeue.epilogue",)),
    Kind.JANITOR: (("shared/states.prologue", "wrappers/janitor.prologue"), ()),
}


_LUA = {name: load_on_one_line(name) for parts in _PARTS.values() for names in parts for name in names}
_POSITION = re.compile(r"\[(\w+_(?:key|arg))\]")


def _part(name: str, shape: Shape) -> bytes:
    """Return a Lua part with the positions of a shape put in."""
    text = _POSITION.sub(lambda match: f"[{getattr(shape, match[1])}]", _LUA[name])
    return text.replace("source_command", f"'{shape.source_command}'").encode()
