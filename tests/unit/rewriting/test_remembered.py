"""What a call becomes that ends a task as an earlier one did; `tests/property/test_remembered.py` has the rest."""

import pytest

from asynq_ttl.policy.rules import Mode
from asynq_ttl.rewriting import remembered
from asynq_ttl.rewriting.call import Rewrite
from asynq_ttl.rewriting.remembered import Remembered
from asynq_ttl.rewriting.terms import alike
from asynq_ttl.wire.commands import Command
from support.policy_calls import ALL, NOW, REGISTRY, ScriptCall, archive, complete, policy_of, rewritten
from support.task_message import encode_task


def command_of(call: ScriptCall) -> tuple[Command, int]:
    """Return a call as a command, and its number of KEYS."""
    text, keys, args = call
    return [b"EVALSHA", REGISTRY.learn(text).sha, b"%d" % len(keys), *keys, *args], len(keys)


def remembering(call: ScriptCall, mode: Mode = Mode.ENFORCE) -> tuple[Remembered, Rewrite]:
    """Return what remembers the terms of a call, and what was decided about it."""
    command, keys = command_of(call)
    found = rewritten(policy_of(ALL, mode=mode), call)
    assert found is not None
    assert found.terms is not None
    calls = Remembered.of(REGISTRY.learn(call[0]), len(command), keys)
    calls.remember(*found.terms)
    return calls, found


@pytest.mark.compiled
@pytest.mark.parametrize("call", [complete(), archive()])
def test_another_task_gets_the_same(call: ScriptCall) -> None:
    """What differs is filled in."""
    calls, found = remembering(call)
    command, keys = command_of(call)
    recalled = calls.recall(command, keys)
    assert recalled is not None
    changed, decision = recalled
    assert decision == found.decision
    assert found.tail is not None
    expected = [command[0], REGISTRY.learn(call[0]).wrapper_sha, *command[2:], found.tail]
    for number, value in found.argv:
        expected[2 + keys + number] = value
    assert changed == expected


@pytest.mark.compiled
def test_in_shadow_mode_it_is_only_told() -> None:
    """The command goes as it came."""
    calls, found = remembering(complete(), Mode.SHADOW)
    assert calls.recall(*command_of(complete())) == (None, found.decision)


OTHER_CALLS = {
    "another type": complete(message=encode_task("other", "id", "q", 600)),
    "another retention": complete(601),
    "no message": complete(message=b"\xff"),
    "ended before 1970": (*complete()[:2], [b"id", b"5", complete()[2][2]]),
    "no time": (*complete()[:2], [b"id", b"x", complete()[2][2]]),
    "another ID": (*complete()[:2], [b"other", *complete()[2][1:]]),
    "one argument more": (*complete()[:2], [*complete()[2], b"more"]),
}


@pytest.mark.parametrize("why", OTHER_CALLS)
def test_any_other_call_is_left_to_who_decides(why: str) -> None:
    """It may be another matter, or none."""
    calls, _ = remembering(complete())
    assert calls.recall(*command_of(OTHER_CALLS[why])) is None


@pytest.mark.parametrize("cutoff", [b"x", b"-1", b"9" * 16, b"%d" % (NOW - 5)])
def test_an_archiving_with_another_age_is_left_to_who_decides(cutoff: bytes) -> None:
    """Or with none."""
    calls, _ = remembering(archive())
    text, keys, args = archive()
    assert calls.recall(*command_of((text, keys, [*args[:3], cutoff, args[4]]))) is None


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit it begins anew; names that are too long are not kept at all."""
    monkeypatch.setattr(remembered, "MAX_TERMS", 2)
    calls, found = remembering(complete())
    assert found.terms is not None
    terms = found.terms[1]
    for retention in (1, 2):
        calls.remember(alike(b"asynq:{q}:completed", "mail", retention, b""), terms)
    assert calls.recall(*command_of(complete())) is None
    calls.remember(alike(b"asynq:{q}:completed", "x" * remembered.MAX_NAMES, 600, b""), terms)
    assert list(calls.terms) == [alike(b"asynq:{q}:completed", "mail", 2, b"")]
