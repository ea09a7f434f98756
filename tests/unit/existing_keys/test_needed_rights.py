"""Every command of ours is in the list, can be tried, and is documented."""

import pytest

from asynq_ttl.existing_keys import needed_rights
from asynq_ttl.existing_keys.needed_rights import Need, attempt, commands_of
from asynq_ttl.lua.loader import names
from support.documented_rights import rules_after, spared
from support.paths import LUA

ALL = {
    name: value for name, value in vars(needed_rights).items() if isinstance(value, Need) and not name.startswith("_")
}


def test_what_a_text_runs_is_read_from_it() -> None:
    """Also by pcall, and on more than one line."""
    assert commands_of("redis.call('GET', KEYS[1]) redis.pcall(\n  'DEL', KEYS[1])") == {"GET", "DEL"}
    assert commands_of("redis.pcall(source_command, KEYS[1], 0, -1)") == {"LRANGE", "ZRANGE"}


@pytest.mark.parametrize(
    "text",
    [
        "redis.call(read, KEYS[1])",
        "redis.call(ARGV[1] == '' and 'LRANGE' or 'ZRANGE', KEYS[1])",
        "redis.pcall(unpack(words))",
        "local call = redis.call",
        "redis.call 'PING'",
        'redis.call("GET", KEYS[1])',
    ],
)
def test_a_name_that_cannot_be_read_is_a_fault(text: str) -> None:
    """Or a right would be missing from the list."""
    with pytest.raises(ValueError, match="no literal"):
        commands_of(text)


def test_no_lua_text_is_left_out() -> None:
    """Each belongs to somebody whose rights are listed."""
    listed = set().union(*(need.commands for need in ALL.values()))
    texts = {path.relative_to(LUA).as_posix().removesuffix(".lua"): path.read_text() for path in LUA.rglob("*.lua")}
    for name, text in texts.items():
        assert commands_of(text) <= listed, name
    folders = {name.partition("/")[0] for name in texts}
    assert folders == {"wrappers", "sweep", "existing_keys", "shared"}
    assert set(texts) == {name for folder in folders for name in names(folder)}


def test_a_text_that_reads_by_one_of_two_commands_needs_both() -> None:
    """The sweeper reads the tasks that wait for their retry from the other end."""
    assert {"LRANGE", "ZREVRANGE"} <= set(needed_rights.SWEEPER.commands)


@pytest.mark.parametrize("command", sorted({*needed_rights.SPARED}.union(*(need.commands for need in ALL.values()))))
def test_each_command_can_be_tried(command: str) -> None:
    """With the name that it has in an ACL."""
    words = attempt(command, b"asynq:{q}:probe", 3)
    assert "|".join(str(word) for word in words[: command.count("|") + 1]) == command
    assert None not in words


# What each paragraph of the documentation lists, after its first words.
DOCUMENTED = [
    ("failure-modes.md", "The wrappers need ", ("WRAPPERS",)),
    ("failure-modes.md", "For the wrappers it needs ", ("CONTROL",)),
    ("failure-modes.md", "Behind Sentinels it needs ", ("BEHIND_SENTINELS",)),
    ("failure-modes.md", "In a cluster it needs ", ("IN_CLUSTER",)),
    ("existing-keys.md", "In a cluster it needs ", ("IN_CLUSTER",)),
    ("failure-modes.md", "For the sweeper it needs ", ("SWEEPER", "LOCK")),
    ("failure-modes.md", "With `--sink` it needs ", ("SINK",)),
    ("failure-modes.md", "The spans of bulk operations name tasks only with ", ("SPANS",)),
    ("existing-keys.md", "The user in the URL needs ", ("READING",)),
    ("existing-keys.md", "To change something it needs ", ("CHANGING",)),
]


@pytest.mark.parametrize(("page", "begin", "needs"), DOCUMENTED, ids=[begin for _, begin, _ in DOCUMENTED])
def test_the_documentation_lists_the_same(page: str, begin: str, needs: tuple[str, ...]) -> None:
    """All commands of the list, and no other."""
    assert set(rules_after(page, begin)) == {f"+{command.lower()}" for need in needs for command in ALL[need].commands}


def test_the_documentation_says_what_is_done_without() -> None:
    """One row of a table for each."""
    assert {rule.removeprefix("+").upper(): lost for rule, lost in spared().items()} == needed_rights.SPARED
