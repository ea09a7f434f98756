import pytest

from asynq_ttl.asynq.script_shape import Kind, Shape, classify
from asynq_ttl.rewriting.wrappers import wrap
from support.foreign_worker import MOVE, PEEK
from support.small_scripts import ARCHIVE, COMPLETE


@pytest.mark.parametrize("text", [COMPLETE, ARCHIVE])
def test_the_original_stands_in_it_unchanged_on_its_own_lines(text: bytes) -> None:
    """The text is there as it was, and what stands before it adds no line: errors keep their line numbers."""
    wrapper = wrap(text, classify(text))
    before, found, after = wrapper.partition(text)
    assert found == text
    assert b"\n" not in before
    assert before.endswith(b"local asynq_ttl_original = function() ")
    assert after.startswith(b"\nend local asynq_ttl_reply = asynq_ttl_original() ")
    assert after.endswith(b"return asynq_ttl_reply")


def test_positions_are_those_of_the_script() -> None:
    """No name of a position is left, and a script with other positions has another wrapper."""
    shape = classify(COMPLETE)
    wrapper = wrap(COMPLETE, shape)
    assert b"_key]" not in wrapper
    assert b"_arg]" not in wrapper
    assert b"KEYS[%d]" % shape.task_key in wrapper


def test_what_has_no_kind_has_no_wrapper() -> None:
    """So has a text whose first line is a shebang without an end."""
    assert wrap(COMPLETE, Shape(Kind.OTHER)) == b""
    assert wrap(b"#!lua name=x", classify(COMPLETE)) == b""


def test_a_shebang_stays_in_front() -> None:
    """Redis reads it from the first line only."""
    wrapper = wrap(b"#!lua flags=no-writes\n" + COMPLETE, classify(COMPLETE))
    assert wrapper.startswith(b"#!lua flags=no-writes\n")
    assert wrapper.count(b"#!lua") == 1


@pytest.mark.parametrize("text", [MOVE, b"#!lua flags=allow-oom\n" + PEEK])
def test_any_text_can_be_wrapped_by_effect(text: bytes) -> None:
    """No position in it has to be known."""
    wrapper = wrap(text, Shape(Kind.BY_EFFECT))
    before, original, after = wrapper.partition(text.split(b"\n", 1)[1])
    assert original
    assert b"_key]" not in wrapper
    assert b"_arg]" not in wrapper
    assert b"redis.call" not in before + after


def test_what_is_added_never_raises() -> None:
    """Whatever stands around the original calls Redis by `pcall`."""
    before, _, after = wrap(ARCHIVE, classify(ARCHIVE)).partition(ARCHIVE)
    assert b"redis.call" not in before + after
    assert b"redis.pcall" in after
