from collections.abc import Callable

import pytest

import asynq_ttl.rewriting.registry
import asynq_ttl.session.holding
import asynq_ttl.session.pending
import asynq_ttl.session.script_calls
import asynq_ttl.session.session
import asynq_ttl.wire.commands
from asynq_ttl.events import Action, Decision, FailOpen, Outcome
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import Keep, Mode, Policy, Retention, Rule
from asynq_ttl.rewriting.registry import IMPOSSIBLE_SHA, Status, sha_of
from asynq_ttl.rewriting.rewriter import Rewriter
from asynq_ttl.wire.commands import HOLD_BYTES, encode
from support.conversation import (
    ACTIVE,
    COMPLETE,
    DAY,
    DEQUEUE,
    INDEX,
    LEASE,
    MESSAGE,
    OTHER,
    PAUSED,
    PENDING,
    RUN,
    UNKNOWN,
    Conversation,
    complete,
    completed,
    dequeue,
    pipeline,
    run,
)

OK = b"+OK\r\n"
NOSCRIPT = b"-NOSCRIPT No matching script.\r\n"
PING = (b"PING",)
COMPLETE_SHA, DEQUEUE_SHA, RUN_SHA = sha_of(COMPLETE), sha_of(DEQUEUE), sha_of(RUN)
ELSEWHERE = Rule("elsewhere", queues=(compile_glob("other"),), completed=Retention(Keep.TTL, DAY))


# --- what is no concern of the sidecar --------------------------------------------------------------------------


def test_other_commands_go_as_they_came() -> None:
    """Bytes in which nothing is rewritten are passed on as the very object that came in, and replies counted."""
    talk = Conversation()
    data = pipeline(PING, (b"SET", b"key", b"value"))
    assert talk.session.receive_downstream(data) is data
    assert (talk.session.commands, talk.session.replies) == (2, 0)
    talk.upstream_replies(b"+PONG\r\n", OK)
    assert (talk.session.commands, talk.session.replies) == (2, 2)
    assert talk.told() == []


def test_commands_without_a_reply_are_not_counted() -> None:
    """Redis skips an empty command, and hangs up at one that starts with something else than a bulk string."""
    talk = Conversation()
    data = b"*0\r\n*1\r\n$4\r\nPING\r\n*0\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*0\r\n"
    assert talk.downstream_sends_bytes(data) == data
    assert talk.session.commands == 2
    assert talk.downstream_sends_bytes(b"*1\r\n:5\r\n") == b"*1\r\n:5\r\n"
    assert talk.session.commands == 2


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


# --- learning and activation ------------------------------------------------------------------------------------


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


def test_a_pipeline_waits_where_a_script_does() -> None:
    """What comes before goes at once, what comes after waits, each script is waited for, all in order."""
    talk = Conversation()
    commands = [PING, complete(COMPLETE, name=b"EVAL"), (b"ECHO", b"a"), dequeue(DEQUEUE, name=b"EVAL"), PING]
    assert talk.downstream_sends(*commands) == encode(PING)
    assert talk.session.commands == 1
    assert talk.session.held_bytes == len(pipeline(*commands[1:]))
    wrapped = completed(talk.wrapper(COMPLETE), name=b"EVAL")
    assert talk.activation_ends(Status.ACTIVE) == pipeline(wrapped, (b"ECHO", b"a"))
    wrapped = dequeue(talk.wrapper(DEQUEUE), name=b"EVAL")
    assert talk.activation_ends(Status.ACTIVE) == pipeline(wrapped, PING)
    assert talk.session.commands == 5
    assert talk.session.held_bytes == 0


def test_a_tail_behind_a_wait_is_not_lost() -> None:
    """An incomplete command after one that waits is held, and framed when the rest comes."""
    talk = Conversation()
    data = pipeline(complete(COMPLETE, name=b"EVAL"), PING, complete(COMPLETE_SHA))
    assert talk.downstream_sends_bytes(data[:-5]) == b""
    wrapped = completed(talk.wrapper(COMPLETE), name=b"EVAL")
    assert talk.activation_ends(Status.ACTIVE) == pipeline(wrapped, PING)
    assert talk.session.busy
    assert talk.downstream_sends_bytes(data[-5:]) == encode(completed(talk.wrapper_sha(COMPLETE)))
    assert not talk.session.busy


def test_an_unknown_shape_is_told() -> None:
    """A script that writes a terminal state in a way that is not understood goes as it came; somebody is told."""
    talk = Conversation()
    command = (b"EVAL", UNKNOWN, b"1", b"asynq:{q}:t:1")
    assert talk.downstream_sends(command) == encode(command)
    assert talk.downstream_sends((b"SCRIPT", b"LOAD", UNKNOWN)) == encode((b"SCRIPT", b"LOAD", UNKNOWN))
    assert talk.complaints() == [FailOpen.SHAPE, FailOpen.SHAPE]


# --- rewriting --------------------------------------------------------------------------------------------------


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


def test_polls_go_the_short_way() -> None:
    """From the second poll of a queue on only the SHA is changed, in the bytes that came; each is counted."""
    talk = Conversation().knows(DEQUEUE)
    expected = encode(dequeue(talk.wrapper_sha(DEQUEUE)))
    assert [talk.downstream_sends(dequeue(DEQUEUE_SHA)) for _ in range(3)] == [expected] * 3
    lower = talk.downstream_sends(dequeue(DEQUEUE_SHA, name=b"evalsha"))
    assert lower == encode(dequeue(talk.wrapper_sha(DEQUEUE), name=b"evalsha"))
    assert talk.session.commands == 4


def test_polls_of_other_queues_go_as_they_came() -> None:
    """Where no rule concerns the queue every poll stays as it is, the first and the next."""
    talk = Conversation(Rule("other", queues=(compile_glob("other"),), archived=Retention(Keep.OWN))).knows(DEQUEUE)
    poll = encode(dequeue(DEQUEUE_SHA))
    assert [talk.downstream_sends_bytes(poll) for _ in range(3)] == [poll] * 3
    assert talk.session.commands == 3


def test_polls_go_as_they_came_where_the_policy_is_off() -> None:
    """That is remembered as well."""
    talk = Conversation(mode=Mode.OFF).knows(DEQUEUE)
    poll = encode(dequeue(DEQUEUE_SHA))
    assert [talk.downstream_sends_bytes(poll) for _ in range(3)] == [poll] * 3
    assert len(talk.shared.memory.polls) == 1


def test_what_is_remembered_of_polls_is_bounded() -> None:
    """Neither many queues nor long names make it grow without end; those past the bounds are rewritten all the same."""
    talk = Conversation().knows(DEQUEUE)
    for number in range(3_000):
        keys = [b"asynq:{q%d}:%b" % (number, name) for name in (b"pending", b"paused", b"active", b"lease")]
        poll = (b"EVALSHA", DEQUEUE_SHA, b"4", *keys, b"1", b"asynq:{q%d}:t:" % number)
        for _ in range(2):
            assert talk.downstream_sends(poll) == encode((poll[0], talk.wrapper_sha(DEQUEUE), *poll[2:]))
    polls = talk.shared.memory.polls
    assert len(polls) == 2_000
    polls.clear()
    long = (*dequeue(DEQUEUE_SHA)[:6], b"x" * 1_024, *dequeue(DEQUEUE_SHA)[7:])
    for _ in range(3):
        assert talk.downstream_sends(long) == encode((long[0], talk.wrapper_sha(DEQUEUE), *long[2:]))
    assert polls == {}


def test_another_policy_remembers_no_polls() -> None:
    """What a poll becomes is a matter of the policy in force."""
    talk = Conversation().knows(DEQUEUE)
    for _ in range(3):
        talk.downstream_sends(dequeue(DEQUEUE_SHA))
    talk.shared.rewriter = Rewriter(Policy((ELSEWHERE,)), set())
    assert talk.downstream_sends(dequeue(DEQUEUE_SHA)) == encode(dequeue(DEQUEUE_SHA))


@pytest.mark.parametrize("sha", [b"+%b\r\n", b":5\r\n", b"*1\r\n$1\r\nx\r\n"])
def test_a_poll_in_another_form_goes_as_it_came(sha: bytes) -> None:
    """A poll whose SHA is no bulk string is refused by Redis: it is not touched, and nothing after it is."""
    talk = Conversation().knows(DEQUEUE)
    talk.downstream_sends(dequeue(DEQUEUE_SHA))
    plain = encode(dequeue(DEQUEUE_SHA))
    given = sha % DEQUEUE_SHA if b"%b" in sha else sha
    odd = plain.replace(b"$40\r\n" + DEQUEUE_SHA + b"\r\n", given)
    assert talk.downstream_sends_bytes(odd) == odd
    assert talk.downstream_sends_bytes(plain) == plain


def test_evalsha_without_arguments_goes_as_it_came() -> None:
    """A bare EVALSHA is an error that Redis tells."""
    talk = Conversation().knows(DEQUEUE)
    assert talk.downstream_sends((b"EVALSHA",)) == encode((b"EVALSHA",))


def test_several_commands_of_a_pipeline_are_rewritten() -> None:
    """Each in its place, with what is between them as it came; each is told of with its own reply."""
    talk = Conversation().knows(COMPLETE, DEQUEUE)
    out = talk.downstream_sends(
        PING, complete(COMPLETE_SHA), dequeue(DEQUEUE_SHA), (b"GET", b"k"), complete(COMPLETE_SHA), PING
    )
    wrapped = completed(talk.wrapper_sha(COMPLETE))
    poll = dequeue(talk.wrapper_sha(DEQUEUE))
    assert out == pipeline(PING, wrapped, poll, (b"GET", b"k"), wrapped, PING)
    assert (talk.session.commands, talk.session.pending) == (6, 2)
    talk.upstream_replies(b"+PONG\r\n", OK, b"$-1\r\n")
    assert talk.told() == [("ttl", b"+OK")]
    talk.upstream_replies(b"$1\r\nv\r\n-INTERNAL\r\n+PONG\r\n")
    assert talk.told() == [("ttl", b"-INTERNAL")]
    assert (talk.session.replies, talk.session.pending) == (6, 0)


def test_a_decision_is_told_with_its_reply() -> None:
    """When the command went, when the reply came, to which database, and what was decided."""
    talk = Conversation(database=2).knows(COMPLETE)
    talk.now_ns = 1_000
    talk.downstream_sends(complete(COMPLETE_SHA))
    talk.now_ns = 5_000
    talk.upstream_replies(b"+O")
    assert talk.observer.outcomes == []
    talk.upstream_replies(b"K\r\n")
    [outcome] = talk.observer.outcomes
    assert (outcome.start_ns, outcome.end_ns, outcome.database, outcome.reply) == (1_000, 5_000, 2, b"+OK")
    assert (outcome.decision.rule, outcome.decision.ttl_seconds) == ("week", 7 * DAY + 60)
    assert outcome.decision.enforced


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (complete(COMPLETE_SHA, task=b"\xff"), FailOpen.MESSAGE),
        ((*complete(COMPLETE_SHA)[:6], b"soon", MESSAGE), FailOpen.ARGUMENTS),
    ],
)
def test_a_call_that_is_not_understood_goes_as_it_came(command: tuple[bytes, ...], reason: FailOpen) -> None:
    """The task moves as it would without the sidecar; somebody is told why it got no TTL."""
    talk = Conversation().knows(COMPLETE)
    assert talk.downstream_sends(command) == encode(command)
    assert talk.complaints() == [reason]
    assert talk.session.pending == 0


def test_a_fault_of_the_sidecar_itself_stops_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong while a command is looked at, it goes as it came and is counted; somebody is told."""
    talk = Conversation().knows(COMPLETE)

    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(talk.registry, "get", fail)
    commands = (complete(COMPLETE_SHA), PING)
    assert talk.downstream_sends(*commands) == pipeline(*commands)
    assert talk.session.commands == 2
    assert talk.complaints() == [FailOpen.INTERNAL]
    large = encode((*complete(COMPLETE_SHA), b"x" * 2 * HOLD_BYTES))
    assert talk.downstream_sends_bytes(large, HOLD_BYTES) == large
    assert talk.complaints() == [FailOpen.INTERNAL]
    assert talk.session.commands == 3


# --- scripts never seen, and scripts that are gone --------------------------------------------------------------


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


def test_noscript_is_not_told_as_an_answer() -> None:
    """The client sends the text next, which becomes EVAL of the wrapper; that one is told of."""
    talk = Conversation().knows(COMPLETE)
    talk.downstream_sends(complete(COMPLETE_SHA))
    talk.upstream_replies(NOSCRIPT)
    assert talk.told() == []
    expected = encode(completed(talk.wrapper(COMPLETE), name=b"EVAL"))
    assert talk.downstream_sends(complete(COMPLETE, name=b"EVAL")) == expected
    talk.upstream_replies(OK)
    assert talk.told() == [("ttl", b"+OK")]


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


# --- modes ------------------------------------------------------------------------------------------------------


def test_in_shadow_mode_commands_go_as_they_came_and_are_told_of() -> None:
    """No wrapper is activated; each decision is told with its reply, as one that was not enforced."""
    talk = Conversation(mode=Mode.SHADOW)
    commands = (complete(COMPLETE, name=b"EVAL"), complete(COMPLETE_SHA), run(RUN, name=b"EVAL"))
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


# --- the state of the connection --------------------------------------------------------------------------------


def test_select_changes_the_database_of_what_follows() -> None:
    """A decision keeps the database its command went to, even where the reply comes after a SELECT."""
    talk = Conversation().knows(COMPLETE)
    call = complete(COMPLETE_SHA)
    select = (b"select", b"3")
    talk.downstream_sends(call, select, call, (b"SELECT", b"x"), call, (b"RESET",), call)
    talk.upstream_replies(OK * 7)
    assert [outcome.database for outcome in talk.observer.outcomes] == [0, 3, 3, 0]
    assert talk.session.database == 0


def test_the_databases_that_clients_select_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """All sessions note them in one place, up to a limit; past it a SELECT still counts for its own connection."""
    monkeypatch.setattr(asynq_ttl.session.session, "MAX_DATABASES", 3)
    talk = Conversation()
    before = set(talk.shared.databases)
    talk.downstream_sends(*((b"SELECT", b"%d" % number) for number in (5, 5, 6, 7, 8, 9)))
    assert len(talk.shared.databases) == 3
    assert talk.shared.databases - before <= {5, 6, 7, 8}
    assert talk.session.database == 9


@pytest.mark.parametrize(
    "command",
    [
        (b"SUBSCRIBE", b"asynq:cancel"),
        (b"psubscribe", b"*"),
        (b"SSUBSCRIBE", b"c"),
        (b"UNSUBSCRIBE",),
        (b"PUNSUBSCRIBE",),
        (b"SUNSUBSCRIBE",),
        (b"MONITOR",),
        (b"SYNC",),
        (b"PSYNC", b"?", b"-1"),
        (b"REPLCONF", b"ACK", b"0"),
        (b"CLIENT", b"reply", b"OFF"),
        (b"SUBSCRIBE", *(b"channel:%d" % number for number in range(10_000))),
    ],
    ids=lambda command: f"{command[0].decode()} with {len(command) - 1}",
)
def test_where_replies_cannot_be_assigned_counting_stops(command: tuple[bytes, ...]) -> None:
    """What is decided is told of without a reply: at once, and for what was still waiting for one."""
    talk = Conversation().knows(COMPLETE)
    talk.downstream_sends(complete(COMPLETE_SHA))
    assert talk.told() == []
    assert talk.downstream_sends_bytes(encode(command), 50_000) == encode(command)
    assert not talk.session.counting
    assert talk.told() == [("ttl", b"")]
    assert talk.downstream_sends(complete(COMPLETE_SHA)) == encode(completed(talk.wrapper_sha(COMPLETE)))
    assert talk.told() == [("ttl", b"")]
    talk.upstream_replies(b">3\r\n+message\r\n+a\r\n+b\r\n", OK * 9)
    assert talk.told() == []
    assert talk.session.pending == 0


def test_replies_that_are_none_stop_the_counting() -> None:
    """Those before the garbage are still told, the others are told of without a reply."""
    talk = Conversation().knows(COMPLETE)
    talk.downstream_sends(complete(COMPLETE_SHA), complete(COMPLETE_SHA))
    talk.upstream_replies(b"-ERR\r\n", b"garbage\r\n")
    assert talk.told() == [("ttl", b"-ERR"), ("ttl", b"")]
    assert not talk.session.counting


def test_a_reply_nobody_asked_for_is_no_answer() -> None:
    """Where Redis says more than it was asked, a later decision is told of without a reply."""
    talk = Conversation().knows(COMPLETE)
    talk.upstream_replies(b"-ERR max number of clients reached\r\n")
    talk.downstream_sends(complete(COMPLETE_SHA))
    assert talk.told() == [("ttl", b"")]
    talk.upstream_replies(OK)
    assert talk.told() == []


def test_a_push_is_no_answer() -> None:
    """A push that comes first is passed over."""
    talk = Conversation().knows(COMPLETE)
    talk.downstream_sends(complete(COMPLETE_SHA))
    talk.upstream_replies(b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n", OK)
    assert talk.told() == [("ttl", b"+OK")]


def test_a_connection_that_is_closed_tells_of_what_it_still_waited_for() -> None:
    """The reply will never come; that the command went is told all the same, once."""
    talk = Conversation().knows(COMPLETE)
    talk.downstream_sends(complete(COMPLETE_SHA), complete(COMPLETE_SHA))
    talk.upstream_replies(OK)
    talk.told()
    talk.session.close()
    assert talk.told() == [("ttl", b"")]
    talk.session.close()
    assert talk.told() == []


def test_decisions_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit a decision is told of at once; those before keep their replies."""
    monkeypatch.setattr(asynq_ttl.session.pending, "MAX_PENDING", 2)
    talk = Conversation().knows(COMPLETE)
    talk.downstream_sends(*[complete(COMPLETE_SHA)] * 3)
    assert talk.session.pending == 2
    assert talk.told() == [("ttl", b"")]
    talk.upstream_replies(OK * 3)
    assert talk.told() == [("ttl", b"+OK")] * 2


# --- other forms, and large commands ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        encode(complete(COMPLETE_SHA))[:-2] + b"xx",
        encode(complete(COMPLETE_SHA)).replace(b"$7\r\nEVALSHA", b"+EVALSHA"),
        encode(complete(COMPLETE_SHA)).replace(b"$1\r\n2", b":2"),
        encode(complete(COMPLETE_SHA)).replace(b"$1\r\n2", b"-2"),
        encode((b"SELECT", b"3"))[:-2] + b"xx",
    ],
)
def test_a_command_in_another_form_makes_the_connection_opaque(command: bytes) -> None:
    """It goes as it came, and so does all that follows: it is not certain that Redis sees the same commands."""
    talk = Conversation().knows(COMPLETE)
    assert talk.downstream_sends_bytes(command) == command
    assert not talk.session.counting
    assert talk.downstream_sends(complete(COMPLETE_SHA)) == encode(complete(COMPLETE_SHA))
    assert talk.session.database == 0
    assert talk.session.pending == 0


def test_after_an_inline_command_nothing_is_rewritten() -> None:
    """What was rewritten before is still told with its reply."""
    talk = Conversation().knows(COMPLETE)
    call = complete(COMPLETE_SHA)
    out = talk.downstream_sends_bytes(encode(call) + b"PING\r\n" + encode(call))
    assert out == encode(completed(talk.wrapper_sha(COMPLETE))) + b"PING\r\n" + encode(call)
    assert not talk.session.counting
    talk.upstream_replies(OK, b"+PONG\r\n", OK)
    assert talk.told() == [("ttl", b"+OK")]


def test_garbage_behind_a_wait_is_not_lost() -> None:
    """It goes after the command that waited."""
    talk = Conversation()
    assert talk.downstream_sends_bytes(encode(complete(COMPLETE, name=b"EVAL")) + b"garbage\r\n") == b""
    wrapped = completed(talk.wrapper(COMPLETE), name=b"EVAL")
    assert talk.activation_ends(Status.ACTIVE) == encode(wrapped) + b"garbage\r\n"


@pytest.mark.parametrize("name", [b"SET", b"x" * 2 * HOLD_BYTES])
def test_a_large_command_is_let_through_and_counted(name: bytes) -> None:
    """It goes in pieces, also after a rewritten command and before one, and its reply keeps its place."""
    talk = Conversation().knows(COMPLETE)
    call, large = complete(COMPLETE_SHA), (name, b"key", b"v" * 200_000)
    data = pipeline(call, large, call)
    out = talk.session.receive_downstream(data[:100_000])
    assert talk.session.busy
    assert talk.session.commands == 2
    out += talk.session.receive_downstream(data[100_000:])
    wrapped = completed(talk.wrapper_sha(COMPLETE))
    assert out == pipeline(wrapped, large, wrapped)
    assert talk.session.commands == 3
    talk.upstream_replies(OK, b"-ERR\r\n", b"-INTERNAL\r\n")
    assert talk.told() == [("ttl", b"+OK"), ("ttl", b"-INTERNAL")]


@pytest.mark.parametrize("step", [10_000, 100_000])
def test_a_large_call_of_a_wrapped_script_is_held_and_rewritten(step: int) -> None:
    """A task may be large; its command is held until it is whole, whatever is known of it at the limit."""
    talk = Conversation().knows(COMPLETE)
    call = (*complete(COMPLETE_SHA), b"x" * 300_000)
    expected = encode((*completed(talk.wrapper_sha(COMPLETE))[:-1], b"x" * 300_000, b"604860000 2000000"))
    assert talk.downstream_sends_bytes(encode(call), step) == expected


@pytest.mark.parametrize(
    ("head", "held"),
    [
        ((b"EVAL",), True),
        ((b"SCRIPT",), True),
        ((b"EVALSHA",), True),
        ((b"EVALSHA", b"0" * 40), True),
        ((b"EVALSHA", b"0" * 40, b"2"), True),
        ((b"EVALSHA", b"0" * 40, b"2", INDEX), True),
        ((b"EVALSHA", b"0" * 40, b"2", INDEX, b"asynq:{q}:t:1"), True),
        ((b"EVALSHA", b"0" * 40, b"4", PENDING, PAUSED, ACTIVE, LEASE), True),
        ((b"EVALSHA", COMPLETE_SHA, b"2"), True),
        ((b"EVALSHA", sha_of(OTHER), b"2"), False),
        ((b"EVALSHA", b"0" * 40, b"1", b"some:key"), False),
        ((b"EVALSHA", b"0" * 40, b"x", INDEX), False),
        ((b"EVALSHA", b"0" * 40, b"99999", INDEX), False),
        ((b"SET", b"key"), False),
    ],
)
def test_a_large_command_is_held_only_if_it_may_have_to_be_rewritten(head: tuple[bytes, ...], held: bool) -> None:
    """What is known of it when the limit is reached decides."""
    talk = Conversation().knows(COMPLETE)
    talk.registry.learn(OTHER)
    data = encode((*head, b"x" * 200_000, b"end"))
    out = talk.session.receive_downstream(data[:100_000])
    assert out == (b"" if held else data[:100_000])
    assert talk.session.busy


def test_an_oversize_command_is_let_through_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, whatever might have been rewritten; somebody is told."""
    monkeypatch.setattr(asynq_ttl.wire.commands, "MAX_HELD_BYTES", 3 * HOLD_BYTES)
    monkeypatch.setattr(asynq_ttl.session.holding, "MAX_HELD_BYTES", 3 * HOLD_BYTES)
    talk = Conversation().knows(COMPLETE)
    call = (*complete(COMPLETE_SHA), b"x" * 5 * HOLD_BYTES)
    data = pipeline(call, PING)
    assert talk.downstream_sends_bytes(data, 10_000) == data
    assert talk.complaints() == [FailOpen.SIZE]
    assert talk.session.commands == 2
    assert not talk.session.busy
    assert talk.session.pending == 0


def test_a_command_that_fails_open_is_told_with_its_keys() -> None:
    """Whoever is told can say which queue and task are concerned."""
    talk = Conversation().knows(COMPLETE)
    talk.downstream_sends(complete(COMPLETE_SHA, task=b"\xff"))
    assert [(failure.queue, failure.task_id) for failure in talk.observer.failures] == [("q", "1")]


@pytest.mark.parametrize(
    ("reply", "moved"), [(b"+OK", None), (b":12", 12), (b":-1", 0), (b":x", None), (b"-ERR", None), (b"", None)]
)
def test_how_many_tasks_a_script_has_moved(reply: bytes, moved: int | None) -> None:
    """A number in the reply says so; a negative one is a code for none."""
    decision = Decision("run", "asynq.run_all", "q", "pending", Action.PERSIST, enforced=True)
    assert Outcome(decision, 0, 1, 2, reply).moved == moved


@pytest.mark.parametrize("keys", [b"02", b"00", b"+2", b"-1", b" 2", b"2 ", b"", b"6", b"9" * 20])
def test_what_redis_takes_for_no_number_of_keys_is_none(keys: bytes) -> None:
    """The call goes as it came, and its script is not loaded for it: Redis refuses it without keeping the text."""
    talk = Conversation()
    command = (b"EVAL", COMPLETE, keys, *complete(COMPLETE)[3:])
    assert talk.downstream_sends(command) == pipeline(command)
    assert talk.session.waiting_for is None


def test_a_script_that_is_one_too_many_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes as it came, and whenever its text is sent it is a fail-open, as long as a policy is in force."""
    monkeypatch.setattr(asynq_ttl.rewriting.registry, "MAX_WRAPPED", 1)
    for mode, told in ((Mode.ENFORCE, [FailOpen.SCRIPTS] * 2), (Mode.OFF, [])):
        talk = Conversation(mode=mode).knows(DEQUEUE)
        for _ in range(2):
            command = complete(COMPLETE, name=b"EVAL")
            assert talk.downstream_sends(command) == pipeline(command)
        assert talk.downstream_sends(complete(COMPLETE_SHA)) == pipeline(complete(COMPLETE_SHA))
        assert talk.complaints() == told


def test_a_reply_to_another_command_settles_nothing() -> None:
    """A decision waits for its own reply, though one to an earlier command comes by itself."""
    talk = Conversation().knows(COMPLETE)
    talk.downstream_sends(PING, complete(COMPLETE_SHA))
    talk.upstream_replies(b"+PONG\r\n")
    assert talk.told() == []
    talk.upstream_replies(b"+OK\r\n")
    assert talk.told() == [("ttl", b"+OK")]


# --- signs of a cluster ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "signs"),
    [
        ((b"CLUSTER", b"SLOTS"), ["topology"]),
        ((b"cluster", b"shards"), ["topology"]),
        ((b"CLUSTER", b"NODES"), ["topology"]),
        ((b"CLUSTER", b"INFO"), []),
        ((b"CLUSTER", b"KEYSLOT", b"k"), []),
        ((b"CLUSTER",), []),
    ],
)
def test_a_client_that_asks_for_the_nodes_is_told_of(command: tuple[bytes, ...], signs: list[str]) -> None:
    """The command goes on as it came."""
    talk = Conversation()
    assert talk.session.receive_downstream(pipeline(command)) == pipeline(command)
    assert talk.observer.signs == signs


@pytest.mark.parametrize("reply", [b"-MOVED 1 h:1\r\n", b"-ASK 1 h:1\r\n"])
def test_a_decision_that_is_redirected_is_told_of(reply: bytes) -> None:
    """The redirection is an outcome like any error, and a sign."""
    talk = Conversation().knows(COMPLETE)
    talk.session.receive_downstream(pipeline(complete(COMPLETE_SHA)))
    talk.upstream_replies(reply)
    assert talk.observer.signs == ["redirect"]
    assert len(talk.told()) == 1


# --- credentials -------------------------------------------------------------------------------------------------


def test_a_login_may_be_replaced() -> None:
    """Whoever knows says what goes to Redis instead; without anybody who knows it goes as it came."""
    talk = Conversation()
    data = pipeline((b"AUTH", b"a"), (b"HELLO", b"3"), PING)
    assert talk.downstream_sends_bytes(data) == data
    talk.shared.login = lambda command: [b"AUTH", b"b"] if command[0] == b"AUTH" else None
    assert talk.downstream_sends_bytes(data) == pipeline((b"AUTH", b"b"), (b"HELLO", b"3"), PING)
    assert talk.session.commands == 6
