"""What becomes of a script call, alone or in a pipeline."""

from collections.abc import Callable

import pytest

import asynq_ttl.rewriting.registry
import asynq_ttl.session.script_calls
from asynq_ttl.asynq.script_shape import Kind
from asynq_ttl.events import Decision, FailOpen
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import Keep, Mode, Policy, Retention, Rule
from asynq_ttl.rewriting.registry import IMPOSSIBLE_SHA, Script, Status, sha_of
from asynq_ttl.rewriting.rewriter import Rewriter
from asynq_ttl.session.script_calls import FORWARD, ScriptCalls
from asynq_ttl.wire.commands import encode
from support.conversation import DAY, INDEX, MESSAGE, WEEK, Conversation, complete, completed, dequeue, pipeline, run
from support.foreign_worker import MOVE
from support.small_scripts import COMPLETE, DEQUEUE, DONE, ENQUEUE, OTHER, RECORD, RUN_ONE, UNKNOWN

OK = b"+OK\r\n"
NOSCRIPT = b"-NOSCRIPT No matching script.\r\n"
PING = (b"PING",)
COMPLETE_SHA, DEQUEUE_SHA, RUN_SHA = sha_of(COMPLETE), sha_of(DEQUEUE), sha_of(RUN_ONE)
ELSEWHERE = Rule("elsewhere", queues=(compile_glob("other"),), completed=Retention(Keep.TTL, DAY))


def test_a_script_that_is_not_wrapped_goes_as_it_came() -> None:
    """Neither its text nor its SHA is changed, and nobody is told."""
    talk = Conversation()
    for command in ((b"EVAL", OTHER, b"1", INDEX), (b"EVALSHA", sha_of(OTHER), b"1", INDEX)):
        assert talk.downstream_sends(command) == encode(command)
    assert talk.complaints() == []


@pytest.mark.parametrize(
    "command",
    [
        (b"EVAL",),
        (b"EVAL", COMPLETE),
        (b"EVAL", COMPLETE, b"x", INDEX),
        (b"EVAL", COMPLETE, b"0"),
        (b"EVAL", COMPLETE, b"9", INDEX),
        (b"EVAL", COMPLETE, b"1" * 5000, INDEX),
        (b"EVALSHA", COMPLETE_SHA),
        (b"EVALSHA", COMPLETE_SHA, b"-1", INDEX),
        (b"EVALSHA", COMPLETE_SHA, b"0"),
        (b"EVALSHA", b"0" * 40, b"1", b"some:key"),
        (b"SCRIPT",),
        (b"SCRIPT", b"LOAD"),
        (b"SCRIPT", b"LOAD", COMPLETE, b"more"),
        (b"SCRIPT", b"EXISTS", COMPLETE_SHA),
        (b"CLIENT",),
        (b"CLIENT", b"SETNAME", b"x"),
        (b"SELECT",),
    ],
)
def test_what_is_no_call_of_a_script_on_a_terminal_state_goes_as_it_came(command: tuple[bytes, ...]) -> None:
    """Redis refuses most of these; that is for Redis to say."""
    talk = Conversation()
    assert talk.downstream_sends(command, PING) == pipeline(command, PING)
    assert talk.session.commands == 2
    assert talk.session.counting


def test_a_queue_without_a_rule_is_left_alone() -> None:
    """No matching rule: nothing is rewritten, told or asked for."""
    talk = Conversation(ELSEWHERE)
    unknown = complete(b"0" * 40)
    assert talk.downstream_sends(unknown) == encode(unknown)
    known = complete(COMPLETE, name=b"EVAL")
    assert talk.downstream_sends(known) == encode(known)
    assert talk.session.waiting_for is None
    assert talk.told() == []
    assert talk.complaints() == []


def test_a_script_is_learnt_from_eval() -> None:
    """Its first EVAL waits for the wrapper, and is then sent as EVAL of the wrapper."""
    talk = Conversation()
    assert talk.downstream_sends(complete(COMPLETE, name=b"eval")) == b""
    assert talk.session.waiting_for is talk.registry.get(COMPLETE_SHA)
    assert talk.session.busy
    assert talk.session.commands == 0
    wrapper = talk.wrapper(COMPLETE)
    assert talk.activation_ends(Status.ACTIVE) == encode(completed(wrapper, name=b"eval"))
    assert talk.session.waiting_for is None
    assert not talk.session.busy
    assert talk.session.commands == 1
    talk.upstream_replies(OK)
    assert talk.told() == [("ttl", b"+OK")]


def test_a_script_is_learnt_from_script_load() -> None:
    """SCRIPT LOAD waits for the wrapper and goes as it came; an EVALSHA behind it is rewritten."""
    talk = Conversation()
    load = (b"script", b"load", COMPLETE)
    assert talk.downstream_sends(load, complete(COMPLETE_SHA)) == b""
    assert talk.session.waiting_for is talk.registry.get(COMPLETE_SHA)
    rewritten = completed(talk.wrapper_sha(COMPLETE))
    assert talk.activation_ends(Status.ACTIVE) == pipeline(load, rewritten)
    assert talk.session.commands == 2


def test_script_load_loads_the_wrapper_again() -> None:
    """Whoever loads a script believes that Redis may have lost it, and the wrapper may be lost with it."""
    talk = Conversation().knows(COMPLETE)
    load = (b"SCRIPT", b"LOAD", COMPLETE)
    assert talk.downstream_sends(load) == b""
    assert talk.activation_ends(Status.ACTIVE) == encode(load)


@pytest.mark.parametrize("text", [COMPLETE, OTHER])
def test_script_load_goes_at_once_where_there_is_no_wrapper(text: bytes) -> None:
    """Nothing is waited for if the script has none, if Redis refused it, or if the mode is off."""
    load = (b"SCRIPT", b"LOAD", text)
    talk = Conversation(mode=Mode.OFF if text is COMPLETE else Mode.ENFORCE)
    assert talk.downstream_sends(load) == encode(load)
    refused = Conversation()
    refused.registry.learn(text).status = Status.BROKEN
    assert refused.downstream_sends(load) == encode(load)


def test_a_script_a_client_asked_for_is_not_asked_of_it() -> None:
    """SCRIPT EXISTS goes as it came; a bare EVALSHA behind it too, since the client may not have the text."""
    talk = Conversation()
    exists = (b"SCRIPT", b"exists", RUN_SHA.upper(), sha_of(OTHER))
    assert talk.downstream_sends(exists) == encode(exists)
    assert talk.downstream_sends(run(RUN_SHA)) == encode(run(RUN_SHA))
    assert talk.complaints() == [FailOpen.UNSEEN]
    assert talk.downstream_sends(complete(COMPLETE_SHA)) == encode(complete(IMPOSSIBLE_SHA))
    assert Conversation(others=talk).downstream_sends(run(RUN_SHA)) == encode(run(IMPOSSIBLE_SHA))


def test_the_wrapper_of_a_script_a_client_asked_for_is_loaded_again() -> None:
    """Told that Redis has a script, a client may call it without a text; whether Redis has the wrapper is not known."""
    talk = Conversation().knows(COMPLETE)
    talk.downstream_sends((b"SCRIPT", b"EXISTS", sha_of(OTHER), COMPLETE_SHA.upper()))
    assert talk.downstream_sends(complete(COMPLETE_SHA)) == b""
    assert talk.activation_ends(Status.ACTIVE) == encode(completed(talk.wrapper_sha(COMPLETE)))


def test_what_a_client_asked_for_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit SHAs are not remembered."""
    monkeypatch.setattr(asynq_ttl.session.script_calls, "MAX_ASKED", 1)
    talk = Conversation()
    talk.downstream_sends((b"SCRIPT", b"EXISTS", sha_of(OTHER), RUN_SHA), (b"SCRIPT", b"EXISTS", RUN_SHA))
    assert talk.downstream_sends(run(RUN_SHA)) == encode(run(IMPOSSIBLE_SHA))


def test_what_one_client_taught_serves_all() -> None:
    """Another connection of the same sidecar knows the script at once."""
    first = Conversation().knows(COMPLETE)
    second = Conversation(others=first)
    assert second.downstream_sends(complete(COMPLETE_SHA)) == encode(completed(first.wrapper_sha(COMPLETE)))


@pytest.mark.parametrize(("status", "reason"), [(Status.BROKEN, FailOpen.COMPILE), (Status.NEW, FailOpen.ACTIVATION)])
def test_without_a_wrapper_the_command_goes_as_it_came(status: Status, reason: FailOpen) -> None:
    """Whether Redis refused the wrapper or it could not be loaded in time, the task moves; somebody is told."""
    talk = Conversation()
    command = complete(COMPLETE, name=b"EVAL")
    talk.downstream_sends(command, PING)
    assert talk.activation_ends(status) == pipeline(command, PING)
    assert talk.complaints() == [reason]
    assert talk.session.commands == 2
    talk.upstream_replies(OK, b"+PONG\r\n")
    assert talk.told() == []


def test_a_broken_wrapper_is_not_tried_again() -> None:
    """Its script goes as it came from then on, without a wait."""
    talk = Conversation().knows(COMPLETE)
    talk.registry.learn(COMPLETE).status = Status.BROKEN
    assert talk.downstream_sends(complete(COMPLETE_SHA)) == encode(complete(COMPLETE_SHA))
    assert talk.complaints() == [FailOpen.COMPILE]


def test_a_wrapper_that_could_not_be_loaded_is_tried_again() -> None:
    """The next command waits once more."""
    talk = Conversation()
    talk.downstream_sends(complete(COMPLETE, name=b"EVAL"))
    talk.activation_ends(Status.NEW)
    assert talk.downstream_sends(complete(COMPLETE_SHA)) == b""
    assert talk.activation_ends(Status.ACTIVE) == encode(completed(talk.wrapper_sha(COMPLETE)))


def test_an_unknown_shape_is_told() -> None:
    """A script that writes a terminal state in a way that is not understood goes as it came; each call is told of."""
    talk = Conversation()
    assert talk.downstream_sends((b"SCRIPT", b"LOAD", UNKNOWN)) == encode((b"SCRIPT", b"LOAD", UNKNOWN))
    assert talk.complaints() == []
    for name, script in ((b"EVAL", UNKNOWN), (b"EVALSHA", sha_of(UNKNOWN)), (b"EVALSHA", sha_of(UNKNOWN).upper())):
        command = (name, script, b"1", b"asynq:{q}:t:1")
        assert talk.downstream_sends(command) == encode(command)
    assert talk.complaints() == [FailOpen.SHAPE] * 3


@pytest.mark.parametrize("key", [b"asynq:{q}:t:1", b"other:{other}:t:1", b"job:1"])
def test_nobody_is_told_of_a_queue_that_is_not_concerned(key: bytes) -> None:
    """Nor of keys that are not Asynq's."""
    rule = Rule("other", queues=(compile_glob("other"),), archived=Retention(Keep.TTL, DAY))
    talk = Conversation(rule)
    for command in ((b"EVAL", UNKNOWN, b"1", key), (b"EVALSHA", sha_of(UNKNOWN), b"1", key)):
        assert talk.downstream_sends(command) == encode(command)
    assert talk.complaints() == []


def test_evalsha_becomes_evalsha_of_the_wrapper() -> None:
    """With the score the rule wants, and the time to live as one more argument."""
    talk = Conversation().knows(COMPLETE)
    assert talk.downstream_sends(complete(COMPLETE_SHA)) == encode(completed(talk.wrapper_sha(COMPLETE)))


def test_the_case_of_name_and_sha_does_not_matter() -> None:
    """Redis takes either case of both; the name stays as the client wrote it."""
    talk = Conversation().knows(COMPLETE)
    expected = encode(completed(talk.wrapper_sha(COMPLETE), name=b"evalsha"))
    assert talk.downstream_sends(complete(COMPLETE_SHA.upper(), name=b"evalsha")) == expected


def test_a_poll_is_rewritten_without_a_word() -> None:
    """A dequeue calls its wrapper with the arguments it had, and nobody is told."""
    talk = Conversation().knows(DEQUEUE)
    assert talk.downstream_sends(dequeue(DEQUEUE_SHA)) == encode(dequeue(talk.wrapper_sha(DEQUEUE)))
    talk.upstream_replies(b"$-1\r\n")
    assert talk.session.pending == 0
    assert talk.told() == []


def test_a_fork_with_its_own_prefix_is_told_of() -> None:
    """Its keys are not Asynq's, so nothing is decided; in off mode nobody wants to know."""
    talk = Conversation().knows(COMPLETE)
    command = tuple(part.replace(b"asynq:{", b"myapp:asynq:{") for part in complete(COMPLETE_SHA))
    assert talk.downstream_sends(command) == encode(command)
    assert talk.complaints() == [FailOpen.PREFIX]


def test_evalsha_without_arguments_goes_as_it_came() -> None:
    """A bare EVALSHA is an error that Redis tells."""
    talk = Conversation().knows(DEQUEUE)
    assert talk.downstream_sends((b"EVALSHA",)) == encode((b"EVALSHA",))


ARCHIVED, LIVE = b"asynq:{q}:archived", b"asynq:{q}:active"


def elsewhere(command: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return a call whose KEYS name a task of another queue than the index is of."""
    return tuple(b"asynq:{r}:t:1" if part == b"asynq:{q}:t:1" else part for part in command)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (elsewhere(complete(COMPLETE_SHA, task=b"\xff")), FailOpen.MESSAGE),
        (elsewhere((*complete(COMPLETE_SHA)[:6], b"soon", MESSAGE)), FailOpen.ARGUMENTS),
    ],
)
def test_a_call_that_is_not_understood_goes_as_it_came(command: tuple[bytes, ...], reason: FailOpen) -> None:
    """The task moves as it would without the sidecar; somebody is told why it got no TTL."""
    talk = Conversation().knows(COMPLETE)
    assert talk.downstream_sends(command) == encode(command)
    assert talk.complaints() == [reason]
    assert talk.session.pending == 0


# --- by effect ----------------------------------------------------------------------------------------------------


def move(script: bytes, *, name: bytes = b"EVALSHA", index: bytes = ARCHIVED) -> tuple[bytes, ...]:
    """Return the command by which a foreign worker moves a task."""
    return (name, script, b"3", b"asynq:{q}:t:1", LIVE, index, b"1", b"archived", b"5")


def by_effect(talk: Conversation, text: bytes, command: tuple[bytes, ...]) -> bytes:
    """Return what a call becomes that goes by effect."""
    script = talk.registry.learn(text)
    wrapped = talk.registry.by_effect(script)
    found = talk.shared.rewriter.rewrite_by_effect(command[3 : 3 + int(command[2])])
    assert wrapped is not None
    assert found is not None
    assert found.tail is not None
    name = wrapped.wrapper if command[0] == b"EVAL" else wrapped.wrapper_sha
    return encode((command[0], name, *command[2:], found.tail))


@pytest.mark.parametrize("text", [UNKNOWN, MOVE])
def test_what_no_text_explains_is_wrapped_when_its_keys_say_so(text: bytes) -> None:
    """Its first such call waits for a wrapper; that runs it, and then looks what has become of the task."""
    talk = Conversation()
    command = move(text, name=b"EVAL")
    assert talk.downstream_sends(command) == b""
    waiting = talk.session.waiting_for
    assert waiting is not None
    assert (waiting.kind, waiting.sha) == (Kind.BY_EFFECT, sha_of(text))
    assert talk.activation_ends(Status.ACTIVE) == by_effect(talk, text, command)
    command = move(sha_of(text))
    assert talk.downstream_sends(command) == by_effect(talk, text, command)
    talk.upstream_replies(OK, b":5\r\n")
    outcomes = talk.observer.outcomes
    assert [outcome.decision.operation for outcome in outcomes] == ["end", "end"]
    assert [outcome.moved for outcome in outcomes] == [None, None]
    assert talk.complaints() == []


def test_what_is_loaded_and_never_sent_again_is_wrapped_too() -> None:
    """A client that calls a script by its SHA alone had to load it: the text is known from there."""
    talk = Conversation()
    load = (b"SCRIPT", b"LOAD", MOVE)
    assert talk.downstream_sends(load) == encode(load)
    command = move(sha_of(MOVE))
    assert talk.downstream_sends(command) == b""
    assert talk.activation_ends(Status.ACTIVE) == by_effect(talk, MOVE, command)
    assert talk.downstream_sends(load) == b""  # Redis may have lost both
    assert talk.activation_ends(Status.ACTIVE) == encode(load)


def test_each_call_is_looked_at() -> None:
    """The same script goes as it came where its KEYS name no end of a task: nothing is wrapped, and nobody is told."""
    talk = Conversation()
    for command in (
        move(MOVE, name=b"EVAL", index=b"asynq:{q}:retry"),
        move(sha_of(MOVE), index=b"asynq:{q}:retry"),
        (b"EVALSHA", sha_of(MOVE), b"1", b"my:key"),
    ):
        assert talk.downstream_sends(command) == encode(command)
    assert talk.registry.wrapped() == ()
    assert talk.session.pending == 0
    assert talk.complaints() == []


@pytest.mark.parametrize(
    "command",
    [complete(COMPLETE_SHA, task=b"\xff"), (*complete(COMPLETE_SHA)[:6], b"1700000000000000000", MESSAGE)],
)
def test_a_call_that_is_not_understood_goes_by_effect(command: tuple[bytes, ...]) -> None:
    """The script is understood, this message or this score is not: what becomes of the task shows all the same."""
    talk = Conversation().knows(COMPLETE)
    assert talk.downstream_sends(command) == b""
    assert talk.activation_ends(Status.ACTIVE) == by_effect(talk, COMPLETE, command)
    assert talk.downstream_sends(complete(COMPLETE_SHA)) == encode(completed(talk.wrapper_sha(COMPLETE)))
    assert talk.complaints() == []


def test_one_that_is_one_too_many_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes as it came, like any script beyond the limit."""
    monkeypatch.setattr(asynq_ttl.rewriting.registry, "MAX_WRAPPED", 0)
    talk = Conversation()
    assert talk.downstream_sends(move(MOVE, name=b"EVAL")) == encode(move(MOVE, name=b"EVAL"))
    assert talk.complaints() == [FailOpen.SCRIPTS]


@pytest.mark.parametrize(("status", "reason"), [(Status.BROKEN, FailOpen.COMPILE), (Status.NEW, FailOpen.ACTIVATION)])
def test_without_a_wrapper_by_effect_the_command_goes_as_it_came(status: Status, reason: FailOpen) -> None:
    """Whether Redis refused it or it could not be loaded in time."""
    talk = Conversation()
    command = move(MOVE, name=b"EVAL")
    talk.downstream_sends(command)
    assert talk.activation_ends(status) == encode(command)
    assert talk.complaints() == [reason]
    assert talk.session.pending == 0


def test_in_shadow_mode_nothing_is_wrapped_by_effect() -> None:
    """What would be decided is told."""
    talk = Conversation(mode=Mode.SHADOW)
    command = move(MOVE, name=b"EVAL")
    assert talk.downstream_sends(command) == encode(command)
    talk.upstream_replies(OK)
    assert [outcome.decision.enforced for outcome in talk.observer.outcomes] == [False]
    assert talk.registry.wrapped() == ()


def test_a_state_without_a_rule_is_healed_without_a_word() -> None:
    """A task of that queue may live again by the same script."""
    talk = Conversation(Rule("completed", completed=Retention(Keep.TTL, DAY)))
    command = move(MOVE, name=b"EVAL")
    talk.downstream_sends(command)
    assert talk.activation_ends(Status.ACTIVE) == by_effect(talk, MOVE, command)
    assert talk.session.pending == 0


@pytest.mark.parametrize("text", [MOVE, COMPLETE])
def test_after_script_flush_a_wrapper_by_effect_is_loaded_again(text: bytes) -> None:
    """Each wrapper of the script is waited for once, and what fails then does not stop the command."""
    talk = Conversation().knows(text)
    command = move(text, name=b"EVAL")
    if text is COMPLETE:
        command = (*complete(text, name=b"EVAL")[:6], b"soon", MESSAGE)
    talk.downstream_sends(command)
    expected = by_effect(talk, text, command)
    assert talk.activation_ends(Status.ACTIVE) == expected
    talk.downstream_sends((b"SCRIPT", b"FLUSH"))
    assert talk.downstream_sends(command) == b""
    assert talk.session.resume() == expected


def test_after_script_flush_a_wrapper_by_effect_is_loaded_again_without_the_other_one() -> None:
    """The script's own wrapper, which Redis has refused, is not waited for."""
    talk = Conversation()
    script = talk.registry.learn(COMPLETE)
    talk.registry.refused(script)
    wrapped = talk.registry.by_effect(script)
    assert wrapped is not None
    talk.registry.activated(wrapped)
    decide, _ = calls(talk)
    command = [*complete(COMPLETE, name=b"EVAL")[:6], b"soon", MESSAGE]
    assert isinstance(decide.eval(command, 2, None), list)
    talk.registry.flushed()
    assert decide.eval(command, 2, None) is wrapped
    assert isinstance(decide.eval(command, 2, wrapped), list)


def test_a_policy_that_raises_about_an_end_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command goes as it came."""

    def raises(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    talk = Conversation()
    monkeypatch.setattr(talk.shared.rewriter.policy, "queue_rules", raises)
    monkeypatch.setattr(talk.shared.rewriter.policy, "concerns", lambda _: True)
    command = move(MOVE, name=b"EVAL")
    assert talk.downstream_sends(command) == encode(command)
    assert talk.complaints() == [FailOpen.POLICY]


def test_of_a_large_call_enough_is_held_to_see_whether_it_goes_by_effect() -> None:
    """By its KEYS, once they are there."""
    talk = Conversation()
    talk.registry.learn(MOVE)
    talk.registry.learn(OTHER)
    decide, _ = calls(talk)
    command = list(move(sha_of(MOVE)))
    assert decide.may_be_rewritten(command[:4])
    assert decide.may_be_rewritten(command)
    assert not decide.may_be_rewritten(list(move(sha_of(MOVE), index=b"asynq:{q}:retry")))
    assert not decide.may_be_rewritten([b"EVALSHA", sha_of(OTHER), *command[2:]])


def test_off_means_nothing_by_effect_either() -> None:
    """Nothing is decided or told, though the queue was healed before."""
    talk = Conversation(mode=Mode.OFF)
    command = move(UNKNOWN, name=b"EVAL")
    assert talk.downstream_sends(command) == encode(command)
    assert Rewriter(talk.shared.rewriter.policy, {"q"}).rewrite_by_effect(list(command[3:6])) is None
    assert talk.complaints() == []


@pytest.mark.parametrize("call", [complete, dequeue, run])
def test_an_unknown_sha_on_a_terminal_state_is_asked_for(call: Callable[[bytes], tuple[bytes, ...]]) -> None:
    """It is sent with a SHA that cannot exist; Redis's NOSCRIPT makes the client send the text."""
    talk = Conversation()
    command = call(b"0" * 40)
    assert talk.downstream_sends(command) == encode((command[0], IMPOSSIBLE_SHA, *command[2:]))
    talk.upstream_replies(NOSCRIPT)
    assert talk.told() == []


def test_an_unknown_sha_that_no_terminal_state_concerns_goes_as_it_came() -> None:
    """Redis may know scripts for long that this sidecar has not seen, such as the one that enqueues."""
    talk = Conversation()
    enqueue = (b"EVALSHA", b"0" * 40, b"2", b"asynq:{q}:t:id", b"asynq:{q}:pending", b"msg", b"id", b"1")
    assert talk.downstream_sends(enqueue) == encode(enqueue)
    assert talk.session.commands == 1


def test_an_unknown_sha_inside_a_transaction_is_left_alone() -> None:
    """A NOSCRIPT there would come too late for the client; before and after it is asked for."""
    talk = Conversation()
    command = complete(b"0" * 40)
    asking = (command[0], IMPOSSIBLE_SHA, *command[2:])
    for end in (b"EXEC", b"DISCARD", b"RESET"):
        assert talk.downstream_sends((b"MULTI",), command) == pipeline((b"MULTI",), command)
        assert talk.session.busy
        assert talk.downstream_sends((end,), command) == pipeline((end,), asking)
        assert not talk.session.busy


def test_a_known_script_inside_a_transaction_is_rewritten() -> None:
    """Its task must not go without its TTL; what is told is that Redis queued it."""
    talk = Conversation().knows(COMPLETE)
    wrapped = completed(talk.wrapper_sha(COMPLETE))
    out = talk.downstream_sends((b"MULTI",), complete(COMPLETE_SHA), (b"EXEC",))
    assert out == pipeline((b"MULTI",), wrapped, (b"EXEC",))
    talk.upstream_replies(OK, b"+QUEUED\r\n", b"*1\r\n+OK\r\n")
    assert talk.told() == [("ttl", b"+QUEUED")]
    assert talk.session.replies == 3


def test_after_script_flush_a_wrapper_is_loaded_again() -> None:
    """The flush goes as it came; the next EVAL of each script waits, later ones do not."""
    talk = Conversation().knows(COMPLETE)
    wrapper = talk.wrapper(COMPLETE)
    assert talk.downstream_sends((b"SCRIPT", b"FLUSH")) == encode((b"SCRIPT", b"FLUSH"))
    assert talk.downstream_sends(complete(COMPLETE_SHA)) == encode(completed(talk.wrapper_sha(COMPLETE)))
    talk.upstream_replies(OK, NOSCRIPT)
    assert talk.downstream_sends(complete(COMPLETE, name=b"EVAL")) == b""
    assert talk.activation_ends(Status.ACTIVE) == encode(completed(wrapper, name=b"EVAL"))
    assert talk.downstream_sends(complete(COMPLETE, name=b"EVAL")) == encode(completed(wrapper, name=b"EVAL"))


def test_after_script_flush_a_failing_activation_does_not_stop_anything() -> None:
    """EVAL brings the wrapper's text with it, so it is rewritten all the same."""
    talk = Conversation().knows(COMPLETE)
    talk.downstream_sends((b"SCRIPT", b"FLUSH", b"ASYNC"))
    talk.downstream_sends(complete(COMPLETE, name=b"EVAL"))
    expected = encode(completed(talk.wrapper(COMPLETE), name=b"EVAL"))
    assert talk.session.resume() == expected


def test_in_shadow_mode_commands_go_as_they_came_and_are_told_of() -> None:
    """No wrapper is activated; each decision is told with its reply, as one that was not enforced."""
    talk = Conversation(mode=Mode.SHADOW)
    commands = (complete(COMPLETE, name=b"EVAL"), complete(COMPLETE_SHA), run(RUN_ONE, name=b"EVAL"))
    assert talk.downstream_sends(*commands) == pipeline(*commands)
    assert talk.session.waiting_for is None
    talk.upstream_replies(OK, b"-INTERNAL\r\n", b":1\r\n")
    outcomes = talk.observer.outcomes
    assert [outcome.reply for outcome in outcomes] == [b"+OK", b"-INTERNAL", b":1"]
    assert not any(outcome.decision.enforced for outcome in outcomes)


def test_in_off_mode_nothing_is_changed_told_or_waited_for() -> None:
    """Not even after a script flush, for a script of unknown shape, or for a SHA never seen."""
    talk = Conversation(mode=Mode.OFF).knows(DEQUEUE)
    commands = (
        complete(COMPLETE, name=b"EVAL"),
        complete(COMPLETE_SHA),
        complete(b"0" * 40),
        (b"EVAL", UNKNOWN, b"1", b"asynq:{q}:t:1"),
        (b"SCRIPT", b"FLUSH"),
        dequeue(DEQUEUE, name=b"EVAL"),
    )
    assert talk.downstream_sends(*commands) == pipeline(*commands)
    assert talk.session.waiting_for is None
    assert talk.session.pending == 0
    assert talk.complaints() == []


@pytest.mark.parametrize("keys", [b"02", b"00", b"+2", b"-1", b" 2", b"2 ", b"", b"6", b"9" * 20])
def test_what_redis_takes_for_no_number_of_keys_is_none(keys: bytes) -> None:
    """The call goes as it came, and its script is not loaded for it: Redis refuses it without keeping the text."""
    talk = Conversation()
    command = (b"EVAL", COMPLETE, keys, *complete(COMPLETE)[3:])
    assert talk.downstream_sends(command) == pipeline(command)
    assert talk.session.waiting_for is None


def test_a_script_that_is_one_too_many_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes as it came, and each of its calls is a fail-open, as long as a policy is in force."""
    monkeypatch.setattr(asynq_ttl.rewriting.registry, "MAX_WRAPPED", 1)
    for mode, told in ((Mode.ENFORCE, [FailOpen.SCRIPTS] * 3), (Mode.OFF, [])):
        talk = Conversation(mode=mode).knows(DEQUEUE)
        for _ in range(2):
            command = complete(COMPLETE, name=b"EVAL")
            assert talk.downstream_sends(command) == pipeline(command)
        assert talk.downstream_sends(complete(COMPLETE_SHA)) == pipeline(complete(COMPLETE_SHA))
        assert talk.complaints() == told


# --- answers ------------------------------------------------------------------------------------------------------


def calls(talk: Conversation) -> tuple[ScriptCalls, list[Decision]]:
    """Return who decides for a client, and the decisions that wait for their replies."""
    expected: list[Decision] = []
    return ScriptCalls(talk.shared, expected.append, lambda _enqueue: True), expected


def test_an_answer_is_one_of_three() -> None:
    """The command goes as it came, another goes instead, or the wrapper of a script is waited for."""
    talk = Conversation().knows(COMPLETE)
    decide, expected = calls(talk)
    known, text = list(complete(COMPLETE_SHA)), list(run(RUN_ONE, name=b"EVAL"))
    assert decide.evalsha([b"EVALSHA", sha_of(OTHER), b"1", b"k"], 1, None, b"") is FORWARD
    assert decide.evalsha(known, 2, None, b"") == list(completed(talk.wrapper_sha(COMPLETE)))
    assert [decision.task_id for decision in expected] == ["1"]
    answer = decide.eval(text, 3, None)
    assert answer is talk.registry.get(RUN_SHA)
    assert len(expected) == 1


def test_an_activation_is_tried_once_for_a_command() -> None:
    """Whatever its end: a script that is handed back as tried is not waited for again."""
    talk = Conversation()
    decide, expected = calls(talk)
    command = list(complete(COMPLETE, name=b"EVAL"))
    script = decide.eval(command, 2, None)
    assert isinstance(script, Script)
    assert decide.eval(command, 2, script) is FORWARD
    assert decide.script([b"SCRIPT", b"LOAD", COMPLETE], None) is script
    assert decide.script([b"SCRIPT", b"LOAD", COMPLETE], script) is FORWARD
    assert (talk.complaints(), expected) == ([FailOpen.ACTIVATION], [])


@pytest.mark.parametrize("keys", [0, -1])
def test_a_call_without_keys_goes_as_it_came(keys: int) -> None:
    """It concerns no task, or Redis refuses it. A text that Redis takes is learnt all the same."""
    talk = Conversation()
    decide, _ = calls(talk)
    assert decide.evalsha(list(complete(COMPLETE_SHA)), keys, None, b"") is FORWARD
    assert decide.eval(list(complete(COMPLETE, name=b"EVAL")), keys, None) is FORWARD
    assert (talk.registry.get(COMPLETE_SHA) is None) == (keys < 0)


def test_only_what_is_all_of_a_chunk_is_remembered() -> None:
    """A poll in a pipeline is decided about in the same place and gets the same answer."""
    talk = Conversation().knows(DEQUEUE)
    decide, _ = calls(talk)
    poll = list(dequeue(DEQUEUE_SHA))
    expected = list(dequeue(talk.wrapper_sha(DEQUEUE)))
    assert decide.evalsha(poll, 4, None, b"") == expected
    assert talk.shared.memory.polls == {}
    assert decide.evalsha(poll, 4, None, encode(poll)) == expected
    assert len(talk.shared.memory.polls) == 1


# --- scripts that only some policies are about ----------------------------------------------------------------

HOUR = Rule("hour", queues=(compile_glob("q"),), done=Retention(Keep.TTL, 3600))


def done(script: bytes, *, name: bytes = b"EVALSHA", queue: bytes = b"q") -> tuple[bytes, ...]:
    """Return the command by which a worker is done with a task."""
    keys = [b"asynq:{%b}:%b" % (queue, place) for place in (b"active", b"lease", b"t:1", b"processed", b"unique:u")]
    return (name, script, b"5", *keys, b"1")


def asked(talk: Conversation) -> Callable[[], int]:
    """Count from now on how many chunks the short way knows no answer to; return what says so."""
    chunks = 0

    def count(*arguments: object) -> object:
        nonlocal chunks
        seen = talk.shared.memory.recall(*arguments)  # type: ignore[arg-type] # as the session gives them
        chunks += type(seen) is tuple
        return seen

    talk.session._recall = count  # type: ignore[assignment]
    return lambda: chunks


def test_without_a_rule_about_it_such_a_script_goes_the_short_way() -> None:
    """By its SHA, by its text and when it is loaded: nobody decides, nothing is loaded, nothing is told."""
    talk = Conversation().knows(DONE)
    long_way = asked(talk)
    assert talk.downstream_sends(done(sha_of(DONE))) == encode(done(sha_of(DONE)))
    assert long_way() == 0
    assert talk.downstream_sends(done(DONE, name=b"EVAL")) == encode(done(DONE, name=b"EVAL"))
    assert talk.downstream_sends((b"SCRIPT", b"LOAD", DONE)) == encode((b"SCRIPT", b"LOAD", DONE))
    foreign = done(DONE, name=b"EVAL", queue=b"x")[:3] + (b"fork:{q}:active",) * 5 + (b"1",)
    assert talk.downstream_sends(foreign) == encode(foreign)
    assert (talk.told(), talk.complaints()) == ([], [])


def test_in_other_queues_it_goes_the_short_way_from_its_second_call_on() -> None:
    """The very bytes that came, and in the queue that the rule is about the wrapper is called."""
    talk = Conversation(HOUR).knows(DONE)
    long_way = asked(talk)
    other = done(sha_of(DONE), queue=b"other")
    assert [talk.downstream_sends(other) for _ in range(3)] == [encode(other)] * 3
    assert long_way() == 1
    assert talk.wrapper_sha(DONE) in talk.downstream_sends(done(sha_of(DONE)))
    assert long_way() == 2


def test_another_policy_forgets_which_queues_are_not_concerned() -> None:
    """A rule of it may be about any of them; and one that is about none has the short way for all."""
    talk = Conversation(HOUR).knows(DONE)
    other = done(sha_of(DONE), queue=b"other")
    talk.downstream_sends(other)
    plain = talk.registry.learn(OTHER)
    every = Rule("every", done=Retention(Keep.TTL, 3600))
    talk.shared.use(Rewriter(Policy((every,)), set()))
    assert talk.wrapper_sha(DONE) in talk.downstream_sends(other)
    talk.shared.use(Rewriter(Policy((WEEK,)), set()))
    long_way = asked(talk)
    assert talk.downstream_sends(other) == encode(other)
    assert long_way() == 0
    assert talk.registry.untouched[plain.sha] is plain


def test_one_that_redis_knew_before_is_asked_for_its_text_where_a_rule_is_about_it() -> None:
    """And nowhere else: there it goes the short way from its second call on."""
    talk = Conversation(HOUR)
    long_way = asked(talk)
    sha = b"d" * 40
    other = done(sha, queue=b"other")
    assert [talk.downstream_sends(other) for _ in range(2)] == [encode(other)] * 2
    assert long_way() == 1
    assert talk.downstream_sends(done(sha)) == encode(done(IMPOSSIBLE_SHA))
    assert talk.downstream_sends((b"MULTI",), done(sha)) == encode((b"MULTI",)) + encode(done(sha))
    assert talk.downstream_sends((b"DISCARD",)) == encode((b"DISCARD",))
    # What went in a transaction is no reason not to ask the next time.
    assert talk.downstream_sends(done(sha)) == encode(done(IMPOSSIBLE_SHA))


def test_what_is_known_of_texts_never_seen_ends_with_the_policy() -> None:
    """A call that went the short way may be one that the next policy is about."""
    talk = Conversation()
    sha = b"d" * 40
    talk.downstream_sends(done(sha))
    talk.shared.use(Rewriter(Policy((HOUR,)), set()))
    assert talk.downstream_sends(done(sha)) == encode(done(IMPOSSIBLE_SHA))


def test_a_call_that_goes_as_it_came_says_nothing_of_its_queue() -> None:
    """One that counts a failure is no success; the next one is looked at all the same."""
    talk = Conversation(HOUR).knows(DONE)
    failed = [word.replace(b"unique:u", b"failed") for word in done(sha_of(DONE))]
    assert talk.downstream_sends(tuple(failed)) == encode(failed)
    assert talk.wrapper_sha(DONE) in talk.downstream_sends(done(sha_of(DONE)))


def record(script: bytes, *, name: bytes = b"EVALSHA", key: bytes = b"asynq:scheduler_history:e1") -> tuple[bytes, ...]:
    """Return the command by which a scheduler adds to a history."""
    return (name, script, b"1", key, b"1700000000", b"event", b"1000")


def test_a_history_is_wrapped_where_the_policy_is_about_histories() -> None:
    """Otherwise it goes the short way; so do other logs of that script, about which nobody complains."""
    talk = Conversation().knows(RECORD)
    long_way = asked(talk)
    assert talk.downstream_sends(record(sha_of(RECORD))) == encode(record(sha_of(RECORD)))
    assert long_way() == 0
    talk.shared.use(Rewriter(Policy((WEEK,), scheduler_history=60), set()))
    wrapped = (*record(talk.wrapper_sha(RECORD)), b"60000")
    assert talk.downstream_sends(record(sha_of(RECORD))) == encode(wrapped)
    for key in (b"log", b"asynq:{q}:archived"):
        other = record(sha_of(RECORD), key=key)
        assert [talk.downstream_sends(other) for _ in range(2)] == [encode(other)] * 2
    assert talk.complaints() == []


def test_a_history_script_that_redis_knew_before_is_asked_for_its_text() -> None:
    """That is so for histories alone, and while the policy is about them."""
    talk = Conversation()
    sha = b"d" * 40
    assert talk.downstream_sends(record(sha)) == encode(record(sha))
    talk.shared.use(Rewriter(Policy((WEEK,), scheduler_history=60), set()))
    assert talk.downstream_sends(record(sha)) == encode(record(IMPOSSIBLE_SHA))
    assert talk.downstream_sends((b"MULTI",), record(sha)) == encode((b"MULTI",)) + encode(record(sha))
    assert talk.downstream_sends((b"DISCARD",)) == encode((b"DISCARD",))
    assert talk.downstream_sends(record(sha)) == encode(record(IMPOSSIBLE_SHA))
    other = record(b"e" * 40, key=b"log")
    assert [talk.downstream_sends(other) for _ in range(2)] == [encode(other)] * 2


def test_so_many_queues_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are decided about at each call, and go as they came all the same."""
    monkeypatch.setattr(asynq_ttl.rewriting.registry, "MAX_PASSING", 1)
    talk = Conversation(HOUR).knows(DONE)
    calls = [done(sha_of(DONE), queue=queue) for queue in (b"a", b"b", b"a", b"b")]
    long_way = asked(talk)
    assert [talk.downstream_sends(call) for call in calls] == list(map(encode, calls))
    assert long_way() == 3


@pytest.mark.parametrize(("rules", "held"), [((HOUR,), True), ((), False)])
def test_a_large_one_is_held_only_where_it_may_be_rewritten(rules: tuple[Rule, ...], held: bool) -> None:
    """It goes on in pieces where no rule is about it."""
    talk = Conversation(*rules).knows(DONE)
    data = encode((*done(sha_of(DONE)), b"x" * 200_000))
    assert bool(talk.downstream_sends_bytes(data[:150_000])) is not held


@pytest.mark.parametrize(("keys", "held"), [(done(b"")[3:8], True), ((b"asynq:{q}:other",) * 5, False)])
def test_a_large_one_never_seen_is_held_by_its_keys(keys: tuple[bytes, ...], held: bool) -> None:
    """As one that may have to be asked for its text."""
    talk = Conversation(HOUR)
    data = encode((b"EVALSHA", b"d" * 40, b"5", *keys, b"x" * 200_000))
    assert bool(talk.downstream_sends_bytes(data[:150_000])) is not held


# --- enqueues that may replace a task ------------------------------------------------------------------------------

REPLACING = Rule("mail", queues=(compile_glob("q"),), archived=Retention(Keep.TTL, 60, replaceable=True))


def enqueue(name: bytes = b"EVALSHA", *, queue: bytes = b"q", script: bytes = b"") -> tuple[bytes, ...]:
    """Return the command by which a client enqueues a task."""
    keys = [b"asynq:{" + queue + b"}:" + key for key in (b"t:1", b"pending")]
    return (name, script or sha_of(ENQUEUE), b"2", *keys, MESSAGE, b"1")


def test_an_enqueue_is_wrapped_where_a_rule_replaces() -> None:
    """What its reply says beyond the script's own is told, and taken out."""
    talk = Conversation(REPLACING).knows(ENQUEUE)
    sent = talk.downstream_sends(enqueue())
    assert talk.wrapper_sha(ENQUEUE) in sent
    assert sent.endswith(b'{"types":[],"seconds":2}]},"done":{"rules":[]}}\r\n')
    assert talk.upstream_replies(b":2\r\n", step=1) == b":1\r\n"
    assert [(told.action.value, told.rule, told.task_id) for told in talk.decisions()] == [("replaced", "mail", "1")]
    talk.downstream_sends(enqueue())
    assert talk.upstream_replies(b":1\r\n") == b":1\r\n"
    assert talk.decisions() == []


def test_elsewhere_an_enqueue_goes_the_short_way() -> None:
    """By any policy that replaces nothing, and in other queues: the very bytes, with no decision from the second on."""
    other = enqueue(queue=b"other")
    for talk in (Conversation(HOUR).knows(ENQUEUE), Conversation(REPLACING).knows(ENQUEUE)):
        assert [talk.downstream_sends(other) for _ in range(2)] == [encode(other)] * 2
        assert talk.session.pending == 0
        data = encode(other)
        assert talk.shared.memory.recall(data, {b"EVALSHA"}, talk.registry.untouched, {}, {}) == 1


def test_where_a_mark_could_not_be_taken_out_nothing_is_replaced() -> None:
    """In a transaction, and where replies can no longer be assigned to commands."""
    talk = Conversation(REPLACING).knows(ENQUEUE)
    talk.downstream_sends((b"MULTI",))
    assert talk.downstream_sends(enqueue()) == encode(enqueue())
    talk.downstream_sends((b"EXEC",))
    talk.downstream_sends(enqueue(), (b"SUBSCRIBE", b"c"))
    assert talk.downstream_sends(enqueue()) == encode(enqueue())
    assert talk.upstream_replies(b"+OK\r\n+QUEUED\r\n*1\r\n:2\r\n:2\r\n*3\r\n:2\r\n") == (
        b"+OK\r\n+QUEUED\r\n*1\r\n:2\r\n:1\r\n*3\r\n:2\r\n"
    )


def test_a_client_that_hangs_up_is_owed_nothing() -> None:
    """What may have been replaced is not told."""
    talk = Conversation(REPLACING).knows(ENQUEUE)
    talk.downstream_sends(enqueue())
    talk.session.close()
    assert (talk.session.pending, len(talk.session.marks), talk.decisions()) == (0, 0, [])


def test_in_shadow_mode_an_enqueue_goes_as_it_came() -> None:
    """That it was refused is told; others find out what would have been."""
    talk = Conversation(REPLACING, mode=Mode.SHADOW).knows(ENQUEUE)
    assert talk.downstream_sends(enqueue()) == encode(enqueue())
    assert talk.upstream_replies(b":0\r\n") == b":0\r\n"
    [(refused, outcome)] = talk.observer.refusals
    assert (refused.task_key, outcome.reply) == (b"asynq:{q}:t:1", b":0")


def test_a_text_that_may_add_a_task_is_asked_for() -> None:
    """Only in queues in which something is replaced."""
    talk = Conversation(REPLACING)
    assert IMPOSSIBLE_SHA in talk.downstream_sends(enqueue())
    talk.upstream_replies(b"-NOSCRIPT\r\n")
    other = enqueue(queue=b"other")
    assert [talk.downstream_sends(other) for _ in range(2)] == [encode(other)] * 2
    assert IMPOSSIBLE_SHA in talk.downstream_sends(enqueue())
