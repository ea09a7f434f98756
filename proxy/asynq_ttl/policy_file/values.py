"""What each single value of a policy file may be, and the message and hint about one that is not that.

There is a reader for each kind of value, which returns what a policy is made of or refuses the value. No two values are
compared here, and none is known by its place.
"""

import difflib
import re

from asynq_ttl.policy.glob import Glob, GlobError, compile_glob
from asynq_ttl.policy.rules import Adopt, Keep, Mode, Retention
from asynq_ttl.policy_file.faults import shown
from asynq_ttl.times import DurationError, parse_duration

# Security limit: a policy file is small, and it is read again while the sidecar serves.
_MAX_NAME = 100
# Lua writes a number up to this one without an exponent, which Redis would not read.
_MAX_CAP = 1_000_000_000

_KEEP_WORDS = (Keep.OWN.value, Keep.FOREVER.value, Keep.DELETE.value)
_NO_TIME = re.compile(r"0+[wdhms]?")
_ROLLOUT = re.compile(r"(100(?:\.0{1,2})?|[0-9]{1,2}(?:\.[0-9]{1,2})?)%")


class RefusedError(ValueError):
    """A value is not what it has to be: what is wrong with it, and what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def version(value: object) -> int:
    """Return the version of the format."""
    if type(value) is not int or value != 1:
        given = f"the text {shown(value)!r}" if isinstance(value, str) else shown(value)
        raise RefusedError(f"{given} is not supported", "this release reads version: 1")
    return value


def _word(value: object, names: list[str], refusal: str, known: str) -> str:
    """Return a value that is one of some words; `refusal` says what it is not, `known` what the words are."""
    if isinstance(value, str) and value in names:
        return value
    close = ["off"] if value is False else difflib.get_close_matches(str(value).lower(), names, 1)
    meant = f", did you mean {close[0]}?" if close else ""
    raise RefusedError(f"{shown(value)} is {refusal}", f"{known} {', '.join(names)}{meant}")


def mode(value: object) -> Mode:
    """Return what a policy does with what it decides."""
    return Mode(_word(value, [mode.value for mode in Mode], "no mode", "the modes are"))


def adopt(value: object) -> Adopt:
    """Return what the sweeper adopts."""
    names = [adopt.value for adopt in Adopt]
    return Adopt(_word(value, names, "not what can be adopted", "write one of"))


def seconds(value: object) -> int:
    """Return a duration in seconds."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise RefusedError(f"{shown(value)} is not a duration", "write a number and a unit, such as 36h or 7d")
    try:
        return parse_duration(shown(value))
    except DurationError as error:
        raise RefusedError(error.message, error.hint) from error


def retention(value: object) -> Retention:
    """Return how long a task is kept."""
    if value in _KEEP_WORDS:
        return Retention(Keep(value))
    given = shown(value)
    if _NO_TIME.fullmatch(given):
        meant = "did you mean 7d? To remove tasks at once write delete"
        raise RefusedError(f"{given} keeps nothing", f"a duration needs a unit and is at least 1s, {meant}")
    close = difflib.get_close_matches(given.lower(), _KEEP_WORDS, 1)
    if close:
        raise RefusedError(f"{given} is not a retention", f"did you mean {close[0]}?")
    return Retention(Keep.TTL, seconds(value))


def cap(value: object) -> int:
    """Return how many entries an archive keeps."""
    if type(value) is not int:
        raise RefusedError(f"{shown(value)} is not a whole number", "write how many entries to keep: 50000")
    if not 1 <= value <= _MAX_CAP:
        raise RefusedError(f"{value} is not from 1 to {_MAX_CAP}", "to keep nothing write {ttl: delete}")
    return value


def rollout(value: object) -> int:
    """Return a share, in hundredths of a percent."""
    found = _ROLLOUT.fullmatch(value) if isinstance(value, str) else None
    if found:
        whole, _, fraction = found[1].partition(".")
        return int(whole) * 100 + int(fraction.ljust(2, "0"))
    bare = not isinstance(value, bool) and _ROLLOUT.fullmatch(f"{value}%")
    meant = f", did you mean {value}%?" if bare else ", such as 12.5%"
    raise RefusedError(f"{shown(value)} is no share", f"a share is 0% to 100%, with up to two decimals{meant}")


def name(value: object) -> str:
    """Return the name of a rule."""
    if not isinstance(value, str):
        raise RefusedError(f"{shown(value)} is not text", "a name is text, quote it")
    if not value.isprintable() or value != value.strip() or not 1 <= len(value) <= _MAX_NAME:
        raise RefusedError(f"{shown(value)!r} is no name", f"write 1 to {_MAX_NAME} visible characters")
    return value


def glob(value: object) -> Glob:
    """Return a compiled glob."""
    if not isinstance(value, str):
        raise RefusedError(f"{shown(value)} is not text", "a glob is text, quote it")
    try:
        return compile_glob(value)
    except GlobError as error:
        raise RefusedError(f"{shown(value)!r} is no glob", str(error)) from error
