import ast

import pytest

from asynq_ttl.lua.loader import load, load_on_one_line
from support.paths import LUA, PACKAGE

FILES = sorted(path.relative_to(LUA).as_posix().removesuffix(".lua") for path in LUA.rglob("*.lua"))


def test_a_text_is_named_by_its_path() -> None:
    """Without the ending, and byte for byte."""
    assert load("sweep/sweep_active") == (LUA / "sweep" / "sweep_active.lua").read_text()


def test_texts_come_one_after_the_other() -> None:
    """The later one can use what the earlier one defines, so neither may run into the other's line."""
    both = load("shared/states.prologue", "sweep/sweep")
    assert both == load("shared/states.prologue") + load("sweep/sweep")
    assert load("shared/states.prologue").endswith("\n")


def test_a_text_that_is_not_there_is_an_error() -> None:
    """At once, not when Redis is asked to run it."""
    with pytest.raises(FileNotFoundError):
        load("sweep/none")


def test_on_one_line_comments_and_indentation_go() -> None:
    """The code stays as it is, with a space for each line end."""
    assert load("sweep/sweep_ghosts").count("\n") == 9
    assert load_on_one_line("sweep/sweep_ghosts") == (
        "local dropped = 0 "
        "for number = 2, #ARGV do "
        "if redis.call('EXISTS', ARGV[1] .. ARGV[number]) == 0 then "
        "dropped = dropped + redis.call('ZREM', KEYS[1], ARGV[number]) "
        "end end return dropped"
    )


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("wrappers/")])
def test_what_is_put_on_one_line_has_no_comment_behind_code(name: str) -> None:
    """It would swallow the rest of the line."""
    assert "--" not in load_on_one_line(name)


def test_every_text_is_loaded_by_somebody() -> None:
    """A file that nobody names is left over."""
    named = {
        node.value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(FILES) <= named
