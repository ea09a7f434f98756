import hashlib
import re
from dataclasses import fields

import pytest

from asynq_ttl.asynq.script_shape import OTHER, UNKNOWN, Kind, Shape
from asynq_ttl.rewriting import registry as scripts
from asynq_ttl.rewriting.registry import IMPOSSIBLE_SHA, MAX_TEXT_BYTES, ScriptRegistry, Status, sha_of
from asynq_ttl.rewriting.wrappers import wrap
from support.small_scripts import ARCHIVE_ALL, COMPLETE, RUN_ONE, SHAPES

by_kind = pytest.mark.parametrize("text", SHAPES, ids=lambda text: SHAPES[text].kind.value)


def test_a_script_is_named_as_redis_names_it() -> None:
    """The name of a script is the SHA-1 of its text in lower-case hexadecimal digits."""
    assert sha_of(b"return 1") == b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"


def test_the_impossible_sha_is_as_long_as_one_but_none() -> None:
    """Redis answers NOSCRIPT to it: it has a SHA-1's length and letters that no SHA-1 has."""
    assert len(IMPOSSIBLE_SHA) == hashlib.sha1(usedforsecurity=False).digest_size * 2
    assert not re.fullmatch(rb"[0-9a-f]+", IMPOSSIBLE_SHA)


# --- wrappers ---------------------------------------------------------------------------------------------


@by_kind
def test_a_wrapper_holds_the_original_unchanged_and_on_its_lines(text: bytes) -> None:
    """All that comes before the original is on its first line, so its line numbers stay the same."""
    wrapper = wrap(text, SHAPES[text])
    before, original, after = wrapper.partition(text)
    assert original == text
    assert b"\n" not in before
    assert after.startswith(b"\nend)() ")
    assert after.endswith(b" return asynq_ttl_reply")


@by_kind
def test_a_wrapper_names_no_position_that_the_shape_lacks(text: bytes) -> None:
    """Every placeholder of the Lua parts is a position of the shape, and every position there is one."""
    before, _, after = wrap(text, SHAPES[text]).partition(text)
    ours = (before + after).decode()
    parts = "|".join(part.name for part in fields(Shape) if part.name != "kind")
    assert not re.search(rf"\b({parts})\b", ours)
    assert not re.search(r"(KEYS|ARGV)\[0\]", ours)


@by_kind
def test_what_a_wrapper_adds_cannot_raise_in_redis(text: bytes) -> None:
    """A command that a wrapper adds goes by pcall: what an ACL denies is passed over."""
    before, _, after = wrap(text, SHAPES[text]).partition(text)
    assert b"redis.call" not in before + after


def test_the_source_is_read_by_the_original_s_own_command() -> None:
    """A bulk wrapper reads its source with the command of the shape."""
    assert b"redis.pcall('LRANGE', KEYS[1], 0, -1)" in wrap(
        ARCHIVE_ALL, Shape(Kind.ARCHIVE_ALL, source_key=1, source_command="LRANGE")
    )


@pytest.mark.parametrize("shape", [OTHER, UNKNOWN])
def test_what_is_not_understood_has_no_wrapper(shape: Shape) -> None:
    """Other and unknown scripts are not wrapped."""
    assert wrap(b"return 1", shape) == b""


def test_a_shebang_stays_the_first_line() -> None:
    """Redis wants `#!lua` at the very start; a text that is nothing else has no wrapper."""
    plain, wrapper = wrap(COMPLETE, SHAPES[COMPLETE]), wrap(b"#!lua name=x\n" + COMPLETE, SHAPES[COMPLETE])
    assert wrapper == b"#!lua name=x\n" + plain
    assert wrap(b"#!lua", SHAPES[COMPLETE]) == b""


# --- the registry -----------------------------------------------------------------------------------------


@by_kind
def test_a_learnt_script_is_found_by_its_sha_in_either_case(text: bytes) -> None:
    """Redis takes a SHA in upper case too; so does the registry. A stranger is not found."""
    registry = ScriptRegistry()
    script = registry.learn(text)
    assert (script.sha, script.shape, script.kind) == (sha_of(text), SHAPES[text], SHAPES[text].kind)
    assert (script.wrapper_sha, script.status) == (sha_of(script.wrapper), Status.NEW)
    assert registry.get(script.sha) is script
    assert registry.get(script.sha.upper()) is script
    assert registry.get(b"a" * 40) is None
    assert registry.get(b"A" * 40) is None


def test_a_script_is_learnt_once() -> None:
    """Whoever brings the text again gets the same script, wrapped or not."""
    registry = ScriptRegistry()
    for text in (COMPLETE, b"return 1"):
        assert registry.learn(text) is registry.learn(text)


def test_only_wrapped_scripts_keep_their_text() -> None:
    """The text of any other script is forgotten: only its SHA is remembered."""
    registry = ScriptRegistry()
    other, wrapped = registry.learn(b"return 1"), registry.learn(COMPLETE)
    assert (other.text, other.wrapper, other.wrapper_sha, other.kind) == (b"", b"", b"", Kind.OTHER)
    assert wrapped.text == COMPLETE
    assert registry.wrapped() == (wrapped,)


def test_a_huge_text_is_not_read() -> None:
    """A text beyond the limit is forwarded untouched, whatever it does."""
    assert ScriptRegistry().learn(COMPLETE + b" " * MAX_TEXT_BYTES).kind is Kind.OTHER


def test_learning_has_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limits scripts are forwarded untouched, and the oldest of those are forgotten."""
    monkeypatch.setattr(scripts, "MAX_WRAPPED", 2)
    monkeypatch.setattr(scripts, "MAX_OTHERS", 3)
    registry = ScriptRegistry()
    learnt = [registry.learn(COMPLETE + b"-- %d" % number) for number in range(6)]
    assert registry.wrapped() == tuple(learnt[:2])
    assert [bool(script.wrapper) for script in learnt] == [True, True, False, False, False, False]
    assert [registry.get(script.sha) for script in learnt] == [*learnt[:2], None, *learnt[3:]]


def test_a_flush_concerns_what_redis_had_loaded() -> None:
    """After SCRIPT FLUSH each active wrapper has to be loaded again; a new or a broken one has not."""
    registry = ScriptRegistry()
    active, new, broken = registry.learn(COMPLETE), registry.learn(ARCHIVE_ALL), registry.learn(RUN_ONE)
    active.status, broken.status = Status.ACTIVE, Status.BROKEN
    registry.flushed()
    assert (active.flushed, new.flushed, broken.flushed) == (True, False, False)


@by_kind
def test_a_script_says_how_many_arguments_it_needs(text: bytes) -> None:
    """A call with fewer KEYS or ARGV lacks a part that the wrapper relies on."""
    script = ScriptRegistry().learn(text)
    numbers = {part.name: getattr(script.shape, part.name) for part in fields(Shape)}
    assert script.least_keys == max(value for name, value in numbers.items() if name.endswith("_key"))
    assert script.least_args == max(value for name, value in numbers.items() if name.endswith("_arg"))


# --- the nodes of a cluster ---------------------------------------------------------------------------------


def test_each_node_knows_a_script_and_for_itself_how_far_it_is() -> None:
    """Whichever learnt it, before or after the other one was there."""
    one = ScriptRegistry()
    before = one.learn(COMPLETE)
    two = ScriptRegistry(beside=one)
    after, other = two.learn(ARCHIVE_ALL), two.learn(b"return 1")
    one.activated(before)
    theirs, mine = two.get(before.sha), one.get(after.sha)
    assert theirs is not None
    assert (theirs.text, theirs.wrapper, theirs.wrapper_sha, theirs.shape) == (
        before.text, before.wrapper, before.wrapper_sha, before.shape,
    )  # fmt: skip
    assert theirs.status is Status.NEW
    assert mine is not None
    assert mine is not after
    assert one.get(other.sha) is other
    assert (one.changes, two.changes) == (1, 0)


def test_what_is_active_elsewhere_is_missing_here() -> None:
    """Until it was tried here too; what nobody has activated is not."""
    one = ScriptRegistry()
    two = ScriptRegistry(beside=one)
    script, _ = one.learn(COMPLETE), one.learn(ARCHIVE_ALL)
    assert two.missing() == ()
    one.activated(script)
    (missing,) = two.missing()
    assert missing is two.get(script.sha)
    two.refused(missing)
    assert one.missing() == two.missing() == ()


def test_a_node_that_left_learns_nothing_more() -> None:
    """And is not asked any more."""
    one = ScriptRegistry()
    two = ScriptRegistry(beside=one)
    script = two.learn(COMPLETE)
    two.activated(script)
    two.leave()
    assert one.missing() == ()
    assert two.get(one.learn(ARCHIVE_ALL).sha) is None


def test_how_far_a_script_is_anywhere() -> None:
    """Active at one node counts more than refused, and that more than not tried."""
    one = ScriptRegistry()
    two = ScriptRegistry(beside=one)
    script = one.learn(COMPLETE)
    assert two.status_anywhere(script.sha) is Status.NEW
    two.refused(two.wrapped_script(script.sha))
    assert one.status_anywhere(script.sha) is Status.BROKEN
    one.activated(script)
    assert two.status_anywhere(script.sha) is Status.ACTIVE
