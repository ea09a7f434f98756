import hashlib
import re
from dataclasses import fields

import pytest

from asynq_ttl.asynq.script_shape import OTHER, UNKNOWN, Kind, Shape
from asynq_ttl.rewriting import registry as scripts
from asynq_ttl.rewriting.registry import IMPOSSIBLE_SHA, MAX_TEXT_BYTES, ScriptRegistry, Status, sha_of
from asynq_ttl.rewriting.wrappers import wrap
from support import small_scripts
from support.foreign_worker import FAIL, MOVE
from support.small_scripts import ARCHIVE_ALL, COMPLETE, RUN_ONE, SHAPES
from support.small_scripts import OTHER as OTHER_TEXT

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
    assert after.startswith(b"\nend local asynq_ttl_reply = asynq_ttl_original() ")
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
    monkeypatch.setattr(scripts, "MAX_UNCLEAR", 3)
    registry = ScriptRegistry()
    learnt = [registry.learn(COMPLETE + b"-- %d" % number) for number in range(6)]
    assert registry.wrapped() == tuple(learnt[:2])
    assert [bool(script.wrapper) for script in learnt] == [True, True, False, False, False, False]
    assert [script.crowded_out for script in learnt] == [False, False, True, True, True, True]
    assert [registry.get(script.sha) for script in learnt] == [*learnt[:2], None, *learnt[3:]]


def test_a_script_never_seen_is_noted_by_its_sha_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its text comes. What no text could have, or the registry knows already, is not; nor more than so many."""
    monkeypatch.setattr(scripts, "MAX_OTHERS", 3)
    registry = ScriptRegistry()
    known = registry.learn(COMPLETE)
    for sha in (known.sha, sha_of(small_scripts.OTHER).upper(), b"short", b""):
        registry.unseen(sha)
    assert registry.untouched == {}
    registry.unseen(sha_of(small_scripts.OTHER))
    assert registry.untouched == {sha_of(small_scripts.OTHER): None}
    assert registry.get(sha_of(small_scripts.OTHER)) is None
    other = registry.learn(small_scripts.OTHER)
    assert registry.untouched == {other.sha: other}
    registry.unseen(sha_of(RUN_ONE))
    registry.learn(RUN_ONE)
    assert registry.untouched == {other.sha: other}
    for number in range(5):
        registry.unseen(sha_of(b"%d" % number))
    assert list(registry.untouched) == [sha_of(b"%d" % number) for number in (2, 3, 4)]


def test_what_is_not_understood_can_be_listed() -> None:
    """With its text, whether it is wrapped by effect or not."""
    registry = ScriptRegistry()
    registry.learn(COMPLETE)
    registry.learn(small_scripts.OTHER)
    one, two = registry.learn(small_scripts.UNKNOWN), registry.learn(small_scripts.UNKNOWN + b" ")
    assert registry.not_understood() == (one, two)
    by_effect = registry.by_effect(two)
    assert by_effect is not None
    assert registry.not_understood() == (by_effect, one)
    assert [script.text for script in registry.not_understood()] == [
        small_scripts.UNKNOWN + b" ",
        small_scripts.UNKNOWN,
    ]


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


# --- by effect ---------------------------------------------------------------------------------------------


def test_what_may_end_a_task_keeps_its_text_until_it_is_called_so() -> None:
    """It has no wrapper at first; the calls of anything else go as they came, whatever their KEYS."""
    registry = ScriptRegistry()
    unclear, other = registry.learn(MOVE), registry.learn(OTHER_TEXT)
    assert (unclear.text, unclear.wrapper, other.text) == (MOVE, b"", b"")
    assert registry.untouched == {other.sha: other}
    assert registry.learn(MOVE) is registry.get(unclear.sha.upper()) is unclear
    assert registry.wrapped() == ()


@pytest.mark.parametrize("text", [MOVE, COMPLETE])
def test_a_script_is_wrapped_by_effect_once(text: bytes) -> None:
    """Under its own SHA, beside the wrapper of its shape if it has one."""
    registry = ScriptRegistry()
    script = registry.learn(text)
    found = registry.by_effect(script)
    assert found is not None
    assert (found.kind, found.sha, found.text) == (Kind.BY_EFFECT, script.sha, text)
    assert found.wrapper == wrap(text, Shape(Kind.BY_EFFECT))
    assert (found.wrapper_sha, found.status) == (sha_of(found.wrapper), Status.NEW)
    assert registry.by_effect(script) is registry.by_effect(found) is found
    shaped = (script,) if text is COMPLETE else ()
    assert registry.wrapped() == (*shaped, found)
    assert registry.get(script.sha) is registry.learn(text) is (script if shaped else found)


def test_both_wrappers_of_a_script_are_doubted_and_flushed() -> None:
    """Whether Redis still has them is not known of either."""
    registry = ScriptRegistry()
    script = registry.learn(COMPLETE)
    found = registry.by_effect(script)
    assert found is not None
    for one in (script, found):
        registry.activated(one)
    registry.flushed()
    assert (script.flushed, found.flushed) == (True, True)
    before = registry.changes
    registry.doubted(script.sha.upper())
    assert (script.status, found.status) == (Status.NEW, Status.NEW)
    assert registry.changes == before + 2


def test_wrapping_by_effect_has_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """All wrapped scripts count; of texts that are kept the oldest are forgotten."""
    monkeypatch.setattr(scripts, "MAX_WRAPPED", 2)
    monkeypatch.setattr(scripts, "MAX_UNCLEAR", 2)
    registry = ScriptRegistry()
    learnt = [registry.learn(MOVE + b"-- %d" % number) for number in range(3)]
    assert [registry.get(script.sha) for script in learnt] == [None, *learnt[1:]]
    assert registry.by_effect(registry.learn(COMPLETE)) is not None
    assert registry.by_effect(learnt[1]) is None
    assert registry.learn(RUN_ONE).crowded_out


def test_what_cannot_be_wrapped_is_not_wrapped_by_effect() -> None:
    """A shebang without an end, or a text that is not kept."""
    registry = ScriptRegistry()
    shebang = registry.learn(b"#!lua redis[x]()")
    assert registry.by_effect(shebang) is None
    assert registry.by_effect(registry.learn(FAIL + b" " * MAX_TEXT_BYTES)) is None


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
    assert two.status_anywhere(script) is Status.NEW
    two.refused(two.as_here(script))
    assert one.status_anywhere(script) is Status.BROKEN
    one.activated(script)
    assert two.status_anywhere(script) is Status.ACTIVE


# --- kinds that only some policies are about --------------------------------------------------------------------


def test_the_nodes_of_a_cluster_share_which_queues_are_not_concerned() -> None:
    """What goes the short way at one goes it at each, and ends for all with the policy."""
    first = ScriptRegistry()
    second = ScriptRegistry(beside=first)
    script = first.learn(small_scripts.DONE)
    assert first.untouched == {script.sha: script}
    second.attend({Kind.DONE})
    assert first.untouched == {script.sha: []}
    second.passes(Kind.DONE, b"asynq:{q}:active")
    second.unseen(b"5eed" * 10, Kind.DONE, b"asynq:{r}:active")
    passing = [b"asynq:{q}:", b"asynq:{r}:"]
    assert first.untouched == {script.sha: passing, b"5eed" * 10: (passing,)}
    first.attend(())
    assert list(second.untouched) == [script.sha]
    assert second.untouched[script.sha] in (script, second.get(script.sha))
