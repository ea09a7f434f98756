"""What each value of a policy file may be, and the message and hint about one that is not that.

There is a pydantic model for each mapping, which has its keys, and a reader for each kind of value, which returns what
a policy is made of or refuses the value. No two values are compared here.
"""

import difflib
import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainValidator, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from asynq_ttl.policy.glob import Glob, GlobError, compile_glob
from asynq_ttl.policy.rules import FULL_ROLLOUT, Adopt, Keep, Mode, Retention, Rule
from asynq_ttl.policy_file.faults import shown
from asynq_ttl.policy_file.places import in_words
from asynq_ttl.policy_file.yaml_tree import Tree
from asynq_ttl.times import DurationError, parse_duration

# Security limits: a policy file is small, and it is read again while the sidecar serves.
_MAX_GLOBS = 100
_MAX_NAME = 100
# Lua writes a number up to this one without an exponent, which Redis would not read.
_MAX_CAP = 1_000_000_000

_KEEP_WORDS = (Keep.OWN.value, Keep.FOREVER.value, Keep.DELETE.value)
_NO_TIME = re.compile(r"0+[wdhms]?")
_ROLLOUT = re.compile(r"(100(?:\.0{1,2})?|[0-9]{1,2}(?:\.[0-9]{1,2})?)%")
_ANYTHING = compile_glob("*")


def _refused(message: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError("policy", "{message}", {"message": message, "hint": hint})


def _version(value: object) -> int:
    if type(value) is not int or value != 1:
        given = f"the text {shown(value)!r}" if isinstance(value, str) else shown(value)
        raise _refused(f"{given} is not supported", "this release reads version: 1")
    return value


def _word(value: object, names: list[str], refusal: str, known: str) -> str:
    """Return a value that is one of some words; `refusal` says what it is not, `known` what the words are."""
    if isinstance(value, str) and value in names:
        return value
    close = ["off"] if value is False else difflib.get_close_matches(str(value).lower(), names, 1)
    meant = f", did you mean {close[0]}?" if close else ""
    raise _refused(f"{shown(value)} is {refusal}", f"{known} {', '.join(names)}{meant}")


def _mode(value: object) -> Mode:
    return Mode(_word(value, [mode.value for mode in Mode], "no mode", "the modes are"))


def _adopt(value: object) -> Adopt:
    names = [adopt.value for adopt in Adopt]
    return Adopt(_word(value, names, "not what can be adopted", "write one of"))


def _seconds(value: object) -> int:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise _refused(f"{shown(value)} is not a duration", "write a number and a unit, such as 36h or 7d")
    try:
        return parse_duration(shown(value))
    except DurationError as error:
        raise _refused(error.message, error.hint) from error


def _grace(value: object) -> int:
    return _seconds(value)


def _history(value: object) -> int | None:
    if value == Keep.OWN.value:
        return None
    if value in (Keep.FOREVER.value, Keep.DELETE.value):
        raise _refused(f"{value} is not for histories", "write a duration such as 30d, or keep, which is for ever")
    return _seconds(value)


def _retention(value: object) -> Retention:
    if value in _KEEP_WORDS:
        return Retention(Keep(value))
    given = shown(value)
    if _NO_TIME.fullmatch(given):
        meant = "did you mean 7d? To remove tasks at once write delete"
        raise _refused(f"{given} keeps nothing", f"a duration needs a unit and is at least 1s, {meant}")
    close = difflib.get_close_matches(given.lower(), _KEEP_WORDS, 1)
    if close:
        raise _refused(f"{given} is not a retention", f"did you mean {close[0]}?")
    return Retention(Keep.TTL, _seconds(value))


def _cap(value: object) -> int:
    if type(value) is not int:
        raise _refused(f"{shown(value)} is not a whole number", "write how many entries to keep: 50000")
    if not 1 <= value <= _MAX_CAP:
        raise _refused(f"{value} is not from 1 to {_MAX_CAP}", "to keep nothing write {ttl: delete}")
    return value


def _rollout(value: object) -> int:
    found = _ROLLOUT.fullmatch(value) if isinstance(value, str) else None
    if found:
        whole, _, fraction = found[1].partition(".")
        return int(whole) * 100 + int(fraction.ljust(2, "0"))
    bare = not isinstance(value, bool) and _ROLLOUT.fullmatch(f"{value}%")
    meant = f", did you mean {value}%?" if bare else ", such as 12.5%"
    raise _refused(f"{shown(value)} is no share", f"a share is 0% to 100%, with up to two decimals{meant}")


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise _refused(f"{shown(value)} is not text", "a name is text, quote it")
    if not value.isprintable() or value != value.strip() or not 1 <= len(value) <= _MAX_NAME:
        raise _refused(f"{shown(value)!r} is no name", f"write 1 to {_MAX_NAME} visible characters")
    return value


def _glob(value: object) -> Glob:
    if not isinstance(value, str):
        raise _refused(f"{shown(value)} is not text", "a glob is text, quote it")
    try:
        return compile_glob(value)
    except GlobError as error:
        raise _refused(f"{shown(value)!r} is no glob", str(error)) from error


def _listed(value: object) -> list[object]:
    globs = value if isinstance(value, list) else [value]
    if not 1 <= len(globs) <= _MAX_GLOBS:
        hint = f"write 1 to {_MAX_GLOBS} globs, or leave the key out to match everything"
        raise _refused(f"a list of {len(globs)} globs", hint)
    return globs


def _mapped(value: object) -> object:
    if not isinstance(value, dict):
        raise _refused(f"{shown(value)} is not a mapping", "write {queue: ...}, or leave it out to match all")
    return value


def _saying(value: object) -> object:
    if not isinstance(value, dict):
        meant = shown(value) if isinstance(value, str | int) and not isinstance(value, bool) else "keep"
        raise _refused(f"{shown(value)} is not a mapping", f"write {{ttl: {meant}}}")
    if not value:
        raise _refused("says nothing", "write {ttl: keep}, or leave it out")
    return value


_Globs = Annotated[tuple[Annotated[Glob, PlainValidator(_glob)], ...], BeforeValidator(_listed)]
_Ttl = Annotated[Retention, PlainValidator(_retention)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Match(_Model):
    """Which tasks a rule concerns; no globs match everything."""

    queue: _Globs = ()
    type: _Globs = ()


class _Completed(_Model):
    ttl: _Ttl


class _Done(_Model):
    ttl: _Ttl


class _Archived(_Model):
    ttl: _Ttl = Retention(Keep.OWN)
    max: Annotated[int | None, PlainValidator(_cap)] = None


class _Rule(_Model):
    name: Annotated[str, PlainValidator(_name)]
    match: Annotated[Match, BeforeValidator(_mapped)] = Match()
    completed: Annotated[_Completed | None, BeforeValidator(_saying)] = None
    archived: Annotated[_Archived | None, BeforeValidator(_saying)] = None
    done: Annotated[_Done | None, BeforeValidator(_saying)] = None

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


class Document(_Model):
    """The file as a whole."""

    version: Annotated[int, PlainValidator(_version)]
    mode: Annotated[Mode, PlainValidator(_mode)] = Mode.ENFORCE
    grace: Annotated[int, PlainValidator(_grace)] = 60
    rollout: Annotated[int, PlainValidator(_rollout)] = FULL_ROLLOUT
    adopt: Annotated[Adopt, PlainValidator(_adopt)] = Adopt.NEW
    scheduler_history: Annotated[int | None, PlainValidator(_history)] = None
    rules: Annotated[list[_Rule], BeforeValidator(lambda value: [] if value is None else value)] = []


def narrowing(globs: tuple[Glob, ...]) -> tuple[Glob, ...]:
    """Return globs as a rule holds them: none if one of them matches everything."""
    return () if any(glob.covers(_ANYTHING) for glob in globs) else globs


# What each mapping of the file may hold, by the keys that lead to it.
_MODELS: dict[tuple[str, ...], type[_Model]] = {
    (): Document,
    ("rules",): _Rule,
    ("rules", "match"): Match,
    ("rules", "completed"): _Completed,
    ("rules", "archived"): _Archived,
    ("rules", "done"): _Done,
}

_MISSING = {
    "version": "start the file with version: 1",
    "name": "traces and metrics show a rule by its name",
    "ttl": "write {ttl: keep}, or leave the line out",
}


def validated(tree: Tree) -> Document | None:
    """Return the document with every value read, or None if a value is not valid.

    Args:
        tree: the document as plain data; gets a fault for each value that is not valid.
    """
    if not isinstance(tree.data, dict):
        # Not what it is: it may be another file, with a password in it.
        given = "a single value" if isinstance(tree.data, str | int | float) else shown(tree.data)
        tree.blame((), f"{given} where a policy is a mapping", "start the file with version: 1")
        return None
    try:
        return Document.model_validate(tree.data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            _blame_value(tree, details)
        return None


def _blame_value(tree: Tree, details: ErrorDetails) -> None:
    """Add a fault that pydantic found in one value, in words of our own."""
    kind, path = details["type"], details["loc"]
    keys = tuple(part for part in path if isinstance(part, str))
    if kind == "policy":
        label = in_words(tree, path, keys)
        tree.blame(path, f"{label}{details['ctx']['message']}", details["ctx"]["hint"])
        return
    if kind in ("missing", "extra_forbidden"):
        label = in_words(tree, path, keys[:-1])
        if kind == "missing":
            tree.blame(path, f"{label}`{keys[-1]}` is missing", _MISSING[keys[-1]])
        else:
            tree.blame(path, f"{label}unknown key {shown(keys[-1])}", _known_key_hint(keys[:-1], keys[-1]))
    elif path == ("rules",):
        tree.blame(path, f"rules: {shown(details['input'])} is not a list", "start each rule with `- name:`")
    else:
        tree.blame(path, f"{shown(details['input'])} is not a rule", "a rule is a mapping with `name:` and more")


def _known_key_hint(place: tuple[str, ...], key: str) -> str:
    if place in {("rules", "completed"), ("rules", "done")} and key == "max":
        return "only the archive can be capped: completed tasks go by their ttl alone"
    known = list(_MODELS[place].model_fields)
    close = difflib.get_close_matches(key.lower(), known, 1)
    return f"did you mean {close[0]}?" if close else f"the keys here are {', '.join(known)}"
