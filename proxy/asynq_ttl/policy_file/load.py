"""The policy file: text in; a `Policy` out, or every fault of the text with its line and a hint.

The only importer of pydantic. A text goes through three steps, whose faults are all collected:

* `document` makes plain data of YAML and notes the line of every value.
* pydantic models validate each value alone; the path of a fault is mapped back to its line.
* `_across` finds what only shows between values: duplicate names, rules that say nothing, hidden rules.

Invariant: a text either gives a policy or raises `PolicyError`, whatever its bytes are.
"""

import difflib
import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainValidator, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from asynq_ttl.policy.glob import Glob, GlobError, compile_glob
from asynq_ttl.policy.rules import FULL_ROLLOUT, Keep, Mode, Policy, Retention, Rule, State
from asynq_ttl.policy_file.yaml_tree import Place, PolicyError, Tree, failure, read, shown
from asynq_ttl.times import DurationError, parse_duration

# Security limits: a policy file is small, and it is read again while the sidecar serves.
_MAX_BYTES = 1 << 20
_MAX_RULES = 1_000
_MAX_GLOBS = 100
_MAX_NAME = 100
# Lua writes a number up to this one without an exponent, which Redis would not read.
_MAX_CAP = 1_000_000_000

_KEEP_WORDS = (Keep.OWN.value, Keep.FOREVER.value, Keep.DELETE.value)
_NO_TIME = re.compile(r"0+[wdhms]?")
_ROLLOUT = re.compile(r"(100(?:\.0{1,2})?|[0-9]{1,2}(?:\.[0-9]{1,2})?)%")
_ANYTHING = compile_glob("*")


def load_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        PolicyError: it cannot be read or is not valid.
    """
    source = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise failure(source, 0, f"cannot be read: {error.strerror}", "is the path right?") from error
    _check_size(len(content), source)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise failure(source, line, "this line is not UTF-8", "save the file as UTF-8") from error
    return parse_policy(text, source)


def parse_policy(text: str, source: str) -> Policy:
    """Return the policy that a text describes.

    Args:
        text: the content of a policy file.
        source: its name, for messages and logs.

    Raises:
        PolicyError: the text is not valid; it holds every fault, not only the first.
    """
    encoded = text.encode("utf-8", "surrogatepass")
    _check_size(len(encoded), source)
    tree = read(text, source)
    document = _validated(tree)
    _across(tree)
    if tree.faults or document is None:
        raise PolicyError(tuple(sorted(tree.faults, key=lambda fault: (fault.line, fault.message))))
    return Policy(
        tuple(rule.build() for rule in document.rules),
        mode=document.mode,
        grace_seconds=document.grace,
        rollout=document.rollout,
        source=source,
        digest=hashlib.sha256(encoded).hexdigest()[:12],
        text=text,
    )


def _check_size(size: int, source: str) -> None:
    if size > _MAX_BYTES:
        raise failure(source, 0, "is larger than 1 MiB", "is this a policy file?")


# Each value alone.


def _refused(message: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError("policy", "{message}", {"message": message, "hint": hint})


def _version(value: object) -> int:
    if type(value) is not int or value != 1:
        given = f"the text {shown(value)!r}" if isinstance(value, str) else shown(value)
        raise _refused(f"{given} is not supported", "this release reads version: 1")
    return value


def _mode(value: object) -> Mode:
    names = [mode.value for mode in Mode]
    if isinstance(value, str) and value in names:
        return Mode(value)
    close = ["off"] if value is False else difflib.get_close_matches(str(value).lower(), names, 1)
    meant = f", did you mean {close[0]}?" if close else ""
    raise _refused(f"{shown(value)} is no mode", f"the modes are {', '.join(names)}{meant}")


def _seconds(value: object, likely_unit: str) -> int:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise _refused(f"{shown(value)} is not a duration", "write a number and a unit, such as 36h or 7d")
    try:
        return parse_duration(shown(value), likely_unit=likely_unit)
    except DurationError as error:
        raise _refused(error.message, error.hint) from error


def _grace(value: object) -> int:
    return _seconds(value, "s")


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
    return Retention(Keep.TTL, _seconds(value, "d"))


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


class _Match(_Model):
    queue: _Globs = ()
    type: _Globs = ()


class _Completed(_Model):
    ttl: _Ttl


class _Archived(_Model):
    ttl: _Ttl = Retention(Keep.OWN)
    max: Annotated[int | None, PlainValidator(_cap)] = None


class _Rule(_Model):
    name: Annotated[str, PlainValidator(_name)]
    match: Annotated[_Match, BeforeValidator(_mapped)] = _Match()
    completed: Annotated[_Completed | None, BeforeValidator(_saying)] = None
    archived: Annotated[_Archived | None, BeforeValidator(_saying)] = None

    def build(self) -> Rule:
        return Rule(
            self.name,
            _narrowing(self.match.queue),
            _narrowing(self.match.type),
            self.completed.ttl if self.completed else None,
            self.archived.ttl if self.archived else None,
            self.archived.max if self.archived else None,
        )


class _Document(_Model):
    version: Annotated[int, PlainValidator(_version)]
    mode: Annotated[Mode, PlainValidator(_mode)] = Mode.ENFORCE
    grace: Annotated[int, PlainValidator(_grace)] = 60
    rollout: Annotated[int, PlainValidator(_rollout)] = FULL_ROLLOUT
    rules: Annotated[list[_Rule], BeforeValidator(lambda value: [] if value is None else value)] = []


def _narrowing(globs: tuple[Glob, ...]) -> tuple[Glob, ...]:
    """Return globs as a rule holds them: none where one of them matches everything."""
    return () if any(glob.covers(_ANYTHING) for glob in globs) else globs


# What each mapping of the file may hold, by the keys that lead to it.
_MODELS: dict[tuple[str, ...], type[_Model]] = {
    (): _Document,
    ("rules",): _Rule,
    ("rules", "match"): _Match,
    ("rules", "completed"): _Completed,
    ("rules", "archived"): _Archived,
}

_MISSING = {
    "version": "start the file with version: 1",
    "name": "traces and metrics show a rule by its name",
    "ttl": "write {ttl: keep}, or leave `completed` out",
}


def _validated(tree: Tree) -> _Document | None:
    if not isinstance(tree.data, dict):
        tree.blame((), f"{shown(tree.data)} where a policy is a mapping", "start the file with version: 1")
        return None
    try:
        return _Document.model_validate(tree.data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            _blame_value(tree, details)
        return None


def _blame_value(tree: Tree, details: ErrorDetails) -> None:
    """Add the fault that pydantic found in one value, in this file's words."""
    kind, path = details["type"], details["loc"]
    keys = tuple(part for part in path if isinstance(part, str))
    if kind == "policy":
        label = _label(tree, path, keys)
        tree.blame(path, f"{label}{details['ctx']['message']}", details["ctx"]["hint"])
        return
    if kind in ("missing", "extra_forbidden"):
        label = _label(tree, path, keys[:-1])
        if kind == "missing":
            tree.blame(path, f"{label}`{keys[-1]}` is missing", _MISSING[keys[-1]])
        else:
            tree.blame(path, f"{label}unknown key {shown(keys[-1])}", _known_key_hint(keys[:-1], keys[-1]))
    elif path == ("rules",):
        tree.blame(path, f"rules: {shown(details['input'])} is not a list", "start each rule with `- name:`")
    else:
        tree.blame(path, f"{shown(details['input'])} is not a rule", "a rule is a mapping with `name:` and more")


def _label(tree: Tree, path: Place, keys: tuple[str, ...]) -> str:
    """Return where a fault is, in words: `grace: `, or `rule noise: archived.ttl: `."""
    if len(path) > 1 and isinstance(path[1], int):
        keys = (f"rule {_name_of(tree, path[1])}", *([".".join(keys[1:])] if keys[1:] else []))
    return "".join(f"{key}: " for key in keys)


def _name_of(tree: Tree, index: int) -> str:
    name = dict(_rules(tree))[index].get("name")
    return shown(name) if isinstance(name, str) and name else f"number {index + 1}"


def _known_key_hint(place: tuple[str, ...], key: str) -> str:
    if place == ("rules", "completed") and key == "max":
        return "only the archive can be capped: completed tasks go by their ttl alone"
    known = list(_MODELS[place].model_fields)
    close = difflib.get_close_matches(key.lower(), known, 1)
    return f"did you mean {close[0]}?" if close else f"the keys here are {', '.join(known)}"


# What only shows between values.


def _rules(tree: Tree) -> list[tuple[int, dict[str, object]]]:
    """Return the rules that are mappings, however wrong their values are, with their places in the list."""
    rules = tree.data.get("rules") if isinstance(tree.data, dict) else None
    found = rules if isinstance(rules, list) else []
    return [(index, rule) for index, rule in enumerate(found) if isinstance(rule, dict)]


def _across(tree: Tree) -> None:
    """Add the faults that concern more than one value. Values that are wrong themselves do not hide them."""
    data = tree.data if isinstance(tree.data, dict) else {"mode": Mode.OFF.value}
    if data.get("rules") in (None, []) and data.get("mode") != Mode.OFF.value:
        tree.blame(("rules",), "no rule: nothing would be decided", "write a rule, or use mode: off")
    rules = _rules(tree)
    if len(rules) > _MAX_RULES:
        tree.blame(("rules", _MAX_RULES), f"more than {_MAX_RULES} rules", "use globs, or lists of globs")
        return
    _blame_names(tree, rules)
    for index, rule in rules:
        path = ("rules", index)
        label = _label(tree, path, ("rules",))
        if "archived" not in rule and "completed" not in rule:
            tree.blame(path, f"{label}says nothing", "give it archived: {ttl: ...} or completed: {ttl: ...}")
        match, archived = rule.get("match"), rule.get("archived")
        if isinstance(match, dict) and "type" in match and isinstance(archived, dict) and "max" in archived:
            tree.blame(
                (*path, "archived", "max"),
                f"{label}archived.max: a rule that matches on type cannot cap the archive",
                "the archive is one per queue: put max in a rule without type",
            )
    _blame_hidden(tree, rules)


def _blame_names(tree: Tree, rules: list[tuple[int, dict[str, object]]]) -> None:
    first_lines: dict[str, int] = {}
    for index, rule in rules:
        name, path = rule.get("name"), ("rules", index, "name")
        if isinstance(name, str) and name in first_lines:
            taken = f"the name {shown(name)} is taken by the rule on line {first_lines[name]}"
            tree.blame(path, taken, "traces and metrics tell rules apart by their names")
        elif isinstance(name, str):
            first_lines[name] = tree.lines[path]


def _blame_hidden(tree: Tree, rules: list[tuple[int, dict[str, object]]]) -> None:
    """Add a fault for each rule that can never decide, or never about one of its states."""
    earlier: list[tuple[int, Rule]] = []
    for index, data in rules:
        rule = _outline(data)
        if rule is None:
            continue
        said = [state for state in State if rule.says(state) is not None]
        hiders = {state: _hiders(earlier, rule, state) for state in said}
        label = _label(tree, ("rules", index), ("rules",))
        hidden = [state for state in said if hiders[state]]
        if said and hidden == said:
            message = f"{label}can never be reached because of {_named(tree, set().union(*hiders.values()))}"
            tree.blame(("rules", index), message, "move it up or remove it")
            continue
        for state in hidden:
            message = f"{label}{state.value}: can never be reached because of {_named(tree, hiders[state])}"
            tree.blame(("rules", index, state.value), message, "move the rule up or remove this line")
        earlier.append((index, rule))


def _outline(data: dict[str, object]) -> Rule | None:
    """Return which tasks and states a rule concerns, if that much of it is valid."""
    try:
        match = _Match.model_validate(data.get("match", {}))
    except ValidationError:
        return None
    completed, archived = (Retention(Keep.OWN) if key in data else None for key in ("completed", "archived"))
    return Rule("", _narrowing(match.queue), _narrowing(match.type), completed, archived)


def _hiders(earlier: list[tuple[int, Rule]], rule: Rule, state: State) -> set[int]:
    """Return the places of the rules that together leave nothing to a rule; empty where it can decide."""
    found: set[int] = set()
    for queue in rule.queues or (None,):
        for task_type in rule.types or (None,):
            part = replace(rule, queues=(queue,) if queue else (), types=(task_type,) if task_type else ())
            hider = next((index for index, other in earlier if other.hides(part, state)), None)
            if hider is None:
                return set()
            found.add(hider)
    return found


def _named(tree: Tree, places: set[int]) -> str:
    return " and ".join(f"rule {_name_of(tree, place)} (line {tree.lines['rules', place]})" for place in sorted(places))
