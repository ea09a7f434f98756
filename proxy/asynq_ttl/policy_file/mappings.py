"""Which keys each mapping of a policy file has, and how all of them are read.

Each mapping is a class: its fields are the keys, a field without a default is a key that may not be missing, and
`_READERS` says how the value of each key is read.

Invariants:

* One value that is not valid hides no other: each gets a fault of its own, and so does each key that is missing or
  unknown.
* What is returned has no fault in it, at any depth.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final, TypeVar

from asynq_ttl.policy.glob import Glob, compile_glob
from asynq_ttl.policy.rules import FULL_ROLLOUT, Adopt, Keep, Mode, Retention, Rule
from asynq_ttl.policy_file import values
from asynq_ttl.policy_file.faults import shown
from asynq_ttl.policy_file.places import in_words
from asynq_ttl.policy_file.values import RefusedError
from asynq_ttl.policy_file.yaml_tree import Place, Tree

# Security limit: a policy file is small, and it is read again while the sidecar serves.
_MAX_GLOBS = 100

_ANYTHING = compile_glob("*")
_OWN = Retention(Keep.OWN)

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Match:
    """Which tasks a rule concerns; no globs match everything."""

    queue: tuple[Glob, ...] = ()
    type: tuple[Glob, ...] = ()


@dataclass(frozen=True, slots=True)
class _Completed:
    ttl: Retention


@dataclass(frozen=True, slots=True)
class _Done:
    ttl: Retention


@dataclass(frozen=True, slots=True)
class _Archived:
    ttl: Retention = _OWN
    max: int | None = None


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    match: Match = Match()
    completed: _Completed | None = None
    archived: _Archived | None = None
    done: _Done | None = None

    def build(self) -> Rule:
        """Return the rule that a policy is made of."""
        return Rule(
            self.name,
            narrowing(self.match.queue),
            narrowing(self.match.type),
            self.completed.ttl if self.completed else None,
            self.archived.ttl if self.archived else None,
            self.archived.max if self.archived else None,
            self.done.ttl if self.done else None,
        )


@dataclass(frozen=True, slots=True)
class Document:
    """The file as a whole."""

    version: int
    mode: Mode = Mode.ENFORCE
    grace: int = 60
    rollout: int = FULL_ROLLOUT
    adopt: Adopt = Adopt.NEW
    rules: tuple[_Rule, ...] = ()


def narrowing(globs: tuple[Glob, ...]) -> tuple[Glob, ...]:
    """Return globs as a rule holds them: none if one of them matches everything."""
    return () if any(glob.covers(_ANYTHING) for glob in globs) else globs


def read_document(tree: Tree) -> Document | None:
    """Return the document with every value read, or None if a value is not valid.

    Args:
        tree: the document as plain data; gets a fault for each value that is not valid.
    """
    if not isinstance(tree.data, dict):
        # Not what it is: it may be another file, with a password in it.
        given = "a single value" if isinstance(tree.data, str | int | float) else shown(tree.data)
        tree.blame((), f"{given} where a policy is a mapping", "start the file with version: 1")
        return None
    return _read(Document, tree.data, (), _Faults(tree))


def read_match(data: object) -> Match | None:
    """Return what a rule matches, or None if that is not valid."""
    return _read(Match, data, (), _Faults(None)) if isinstance(data, dict) else None


class _Faults:
    """Counts the faults of what is being read, and tells them.

    Args:
        tree: gets them; None for nobody.
    """

    def __init__(self, tree: Tree | None) -> None:
        self.count = 0
        self._tree = tree

    def add(self, path: Place, message: str, hint: str, about: Place | None = None) -> None:
        """Add a fault.

        Args:
            path: where it is.
            message: what is wrong.
            hint: what to do about it.
            about: the place that the message starts with, empty for none; None for where the fault is.
        """
        self.count += 1
        if self._tree is not None:
            keys = _keys(path if about is None else about)
            label = in_words(self._tree, path, keys) if keys else ""
            self._tree.blame(path, f"{label}{message}", hint)


def _keys(path: Place) -> tuple[str, ...]:
    """Return the keys that lead to a place, without the positions in lists."""
    return tuple(part for part in path if isinstance(part, str))


# Takes a value, where it is and whom to tell its faults. What it returns counts only if it told none.
_Reader = Callable[[object, Place, _Faults], Any]


def _single(read: Callable[[object], object]) -> _Reader:
    """Return what reads a value that stands for itself."""

    def reader(value: object, path: Place, faults: _Faults) -> object:
        try:
            return read(value)
        except RefusedError as error:
            faults.add(path, error.message, error.hint)
            return None

    return reader


def _globs(value: object, path: Place, faults: _Faults) -> tuple[object, ...]:
    listed = value if isinstance(value, list) else [value]
    if not 1 <= len(listed) <= _MAX_GLOBS:
        hint = f"write 1 to {_MAX_GLOBS} globs, or leave the key out to match everything"
        faults.add(path, f"a list of {len(listed)} globs", hint)
        return ()
    return tuple(_single(values.glob)(each, (*path, index), faults) for index, each in enumerate(listed))


def _match(value: object, path: Place, faults: _Faults) -> Match | None:
    if isinstance(value, dict):
        return _read(Match, value, path, faults)
    faults.add(path, f"{shown(value)} is not a mapping", "write {queue: ...}, or leave it out to match all")
    return None


def _saying(kind: type[Made]) -> _Reader:
    """Return what reads what a rule says about a state."""

    def reader(value: object, path: Place, faults: _Faults) -> Made | None:
        if isinstance(value, dict) and value:
            return _read(kind, value, path, faults)
        if isinstance(value, dict):
            faults.add(path, "says nothing", "write {ttl: keep}, or leave it out")
            return None
        meant = shown(value) if isinstance(value, str | int) and not isinstance(value, bool) else "keep"
        faults.add(path, f"{shown(value)} is not a mapping", f"write {{ttl: {meant}}}")
        return None

    return reader


def _rules(value: object, path: Place, faults: _Faults) -> tuple[_Rule | None, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        faults.add(path, f"{shown(value)} is not a list", "start each rule with `- name:`")
        return ()
    return tuple(_rule(each, (*path, index), faults) for index, each in enumerate(value))


def _rule(value: object, path: Place, faults: _Faults) -> _Rule | None:
    if isinstance(value, dict):
        return _read(_Rule, value, path, faults)
    faults.add(path, f"{shown(value)} is not a rule", "a rule is a mapping with `name:` and more", about=())
    return None


_RETENTION = _single(values.retention)
_READERS: Final[Mapping[type, Mapping[str, _Reader]]] = {
    Document: {
        "version": _single(values.version),
        "mode": _single(values.mode),
        "grace": _single(values.seconds),
        "rollout": _single(values.rollout),
        "adopt": _single(values.adopt),
        "rules": _rules,
    },
    _Rule: {
        "name": _single(values.name),
        "match": _match,
        "completed": _saying(_Completed),
        "archived": _saying(_Archived),
        "done": _saying(_Done),
    },
    Match: {"queue": _globs, "type": _globs},
    _Completed: {"ttl": _RETENTION},
    _Done: {"ttl": _RETENTION},
    _Archived: {"ttl": _RETENTION, "max": _single(values.cap)},
}

_MISSING: Final = {
    "version": "start the file with version: 1",
    "name": "traces and metrics show a rule by its name",
    "ttl": "write {ttl: keep}, or leave the line out",
}


def _read(kind: type[Made], value: dict[str, object], path: Place, faults: _Faults) -> Made | None:
    """Return a mapping with every value read, or None if it has a fault."""
    before = faults.count
    readers = _READERS[kind]
    for key in value.keys() - readers.keys():
        faults.add((*path, key), f"unknown key {shown(key)}", _known_key_hint(kind, key), about=path)
    for field in fields(kind):  # type: ignore[arg-type] # every kind is a dataclass
        if field.name not in value and field.default is MISSING:
            faults.add((*path, field.name), f"`{field.name}` is missing", _MISSING[field.name], about=path)
    read = {key: reader(value[key], (*path, key), faults) for key, reader in readers.items() if key in value}
    return kind(**read) if faults.count == before else None


def _known_key_hint(kind: type, key: str) -> str:
    if kind in {_Completed, _Done} and key == "max":
        return "only the archive can be capped: completed tasks go by their ttl alone"
    known = list(_READERS[kind])
    close = difflib.get_close_matches(key.lower(), known, 1)
    return f"did you mean {close[0]}?" if close else f"the keys here are {', '.join(known)}"
