import re

import pytest

from asynq_ttl.existing_keys.audit.problems import PROBLEMS
from asynq_ttl.existing_keys.doctor import rights
from support.paths import DOCS, LUA

# Scripts of the sweeper; the other parts in `lua/` with one of these endings belong to wrappers.
SWEEPER = re.compile(r"sweep.*\.lua")
WRAPPER = re.compile(r"(?!task).*\.(prologue|epilogue)\.lua")


def commands(pattern: re.Pattern[str]) -> set[str]:
    """Return the commands that Lua files call."""
    texts = [path.read_text() for path in LUA.rglob("*.lua") if pattern.fullmatch(path.name)]
    return {name for text in texts for name in re.findall(r"redis\.p?call\('([A-Z]+)'", text)}


@pytest.mark.parametrize(
    ("table", "files"), [(rights.WRAPPERS, WRAPPER), (rights.SWEEPER, SWEEPER)], ids=["wrappers", "sweeper"]
)
def test_every_command_of_a_script_is_tried(table: dict[str, str], files: re.Pattern[str]) -> None:
    """A script that comes to use another command needs it here."""
    assert commands(files) <= set(table)


def test_the_documentation_has_the_same_commands() -> None:
    """What clients' users need."""
    text = (DOCS / "failure-modes.md").read_text().partition("## What the users need")[2].partition("## ")[0]
    listed = text.partition("The wrappers use")[2].partition(", on keys")[0]
    assert set(re.findall(r"`([A-Z]+)`", listed)) == set(rights.WRAPPERS)


def test_the_documentation_has_every_problem() -> None:
    """With its severity."""
    text = (DOCS / "existing-keys.md").read_text().partition("## audit")[2].partition("\n## ")[0]
    assert dict(re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", text, re.MULTILINE)) == {
        code: severity.name.lower() for code, (severity, *_) in PROBLEMS.items()
    }


def test_tries_are_commands_with_arguments() -> None:
    """As `Database.denied` takes them."""
    assert rights.tries({"GET": "", "SET": "x XX"}) == ("GET", "SET x XX")
