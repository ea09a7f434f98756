"""What is known without a decision: compiled or not, the answer is the same, and it is what looking closer gives."""

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asynq_ttl.asynq.keys import may_be_terminal, terminal_queue
from asynq_ttl.events import Decision
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import Keep, Mode, Policy, Retention, Rule
from asynq_ttl.rewriting.registry import IMPOSSIBLE_SHA, ScriptRegistry, Status, sha_of
from asynq_ttl.rewriting.remembered import Remembered
from asynq_ttl.rewriting.rewriter import Rewriter
from asynq_ttl.session import fast_path
from asynq_ttl.session.fast_path import Memory, Recalled, beginning_of, numkeys
from asynq_ttl.wire.commands import Command, CommandFramer, WholeCommands, encode
from support.conversation import ACTIVE, DAY, MESSAGE, TASK, Conversation, complete, completed, dequeue
from support.resp_pieces import CHUNKS, COMMANDS, WORDS
from support.small_scripts import ARCHIVE, COMPLETE, DEQUEUE, OTHER
from support.task_message import encode_task
from support.uncompiled import uncompiled

PLAIN = uncompiled(fast_path, "asynq_ttl.session._fast_path")
assert PLAIN._compiled_recall is None
PING = b"*1\r\n$4\r\nPING\r\n"
SPECIAL = frozenset((b"EVALSHA", b"A"))
Recall = Callable[..., Recalled]
RECALL: list[Recall] = [each.Memory(ScriptRegistry(), WholeCommands()).recall for each in (fast_path, PLAIN)]
DEQUEUE_SHA = sha_of(DEQUEUE)
OTHER_SCRIPT = ScriptRegistry().learn(OTHER)
ELSEWHERE = Rule("elsewhere", queues=(compile_glob("other"),), completed=Retention(Keep.TTL, DAY))


def expected(commands: list[Command]) -> Recalled:
    """Say what whole commands are to be called where nothing is remembered."""
    if any(command[0].upper() in SPECIAL for command in commands):
        return (commands[0], numkeys(commands[0])) if len(commands) == 1 else None
    return len(commands)


# --- what a chunk is ----------------------------------------------------------------------------------------------


@pytest.mark.compiled
def test_the_compiled_part_is_there() -> None:
    """It is tested here, so it has to be built here: a C compiler and Python's headers are needed for that."""
    assert importlib.util.find_spec("asynq_ttl.session._fast_path") is not None


@given(commands=st.lists(COMMANDS, min_size=1, max_size=4))
@example(commands=[[b"x"] * 99])
@example(commands=[[b""]])
@example(commands=[[b"get", b"a"], [b"evalSHA", b"a"]])
def test_whole_commands_are_told(commands: list[Command]) -> None:
    """Commands of no interest are counted; the one that is of interest comes out."""
    chunk = b"".join(map(encode, commands))
    assert [recall(chunk, SPECIAL, {}, {}, {}) for recall in RECALL] == [expected(commands)] * 2


@given(command=COMMANDS, cut=st.integers(1, 200), more=st.binary(min_size=1, max_size=4))
def test_a_part_of_a_command_is_not_told(command: Command, cut: int, more: bytes) -> None:
    """A chunk that ends within a command, or with something else, needs a closer look."""
    whole = encode(command)
    for chunk in (whole[: -min(cut, len(whole))], whole + more):
        assert [recall(chunk, SPECIAL, {}, {}, {}) for recall in RECALL] == [None, None]


@given(chunk=CHUNKS)
@example(chunk=b"*1\r\n$01\r\na\r\n")
@example(chunk=b"*01\r\n$1\r\na\r\n")
@example(chunk=b"*1\r\n$1\r\nab\r")
@example(chunk=b"*1\r\n+a\r\n")
@example(chunk=b"*1\r\n$-1\r\n")
@example(chunk=b"*0\r\n")
@example(chunk=b"*-1\r\n")
@example(chunk=b"*1\r\n$1\r\nb\r\n*0\r\n")
def test_what_is_told_is_what_the_framer_finds(chunk: bytes) -> None:
    """Only what Redis frames as commands is called commands, and both say the same."""
    compiled, plain = (recall(chunk, SPECIAL, {}, {}, {}) for recall in RECALL)
    assert compiled == plain
    framer = CommandFramer(WholeCommands(), lambda _head, _size: False)
    data, commands, _ = framer._feed_slowly(chunk)
    whole = data == chunk and commands and all(commands) and not framer.opaque
    assert compiled == (expected(commands) if whole else None)


POLL = [b"EVALSHA", b"s" * 40, b"2", b"k1", b"k2", b"a1", b"a2"]
BEGINNING = beginning_of(encode(POLL), POLL, 5)


@pytest.mark.parametrize("name", [b"evalsha", b"EVALSHA"])
@pytest.mark.parametrize("arguments", [[b"1"], [b"0"], [b"x", b"y"], [b"99", b"k"]])
def test_a_call_of_an_untouched_script_is_counted(name: bytes, arguments: list[bytes]) -> None:
    """Whatever its arguments are: Redis looks at them. One of another script comes out."""
    for sha, answer in ((b"u", 1), (b"v", ([name, b"v", *arguments], numkeys([name, b"v", *arguments])))):
        chunk = encode([name, sha, *arguments])
        assert [recall(chunk, SPECIAL, {b"u": OTHER_SCRIPT}, {}, {}) for recall in RECALL] == [answer] * 2


KEY = st.builds(
    b"%b%b".__mod__,
    st.tuples(
        st.sampled_from([b"asynq:{q}", b"asynq:{q}:t:x}", b"", b"other"]),
        st.sampled_from([b"", b":archived", b":completed", b":pending", b":active", b":groups", b":lease", b":t:id"]),
    ),
)


@given(keys=st.lists(KEY, max_size=5), more=st.lists(WORDS, max_size=3))
@example(keys=[b"asynq:{q}:t:id", b"asynq:{q}:pending"], more=[b"message"])
@example(keys=[b"asynq:{q}:t:id", b"asynq:{q}:pending", b"asynq:{q}:groups"], more=[])
@example(keys=[b"asynq:{q}:pending", b"asynq:{q}:paused", b"asynq:{q}:active", b"asynq:{q}:lease"], more=[])
@example(keys=[b"asynq:{q}:active", b"asynq:{q}:lease", b"asynq:{q}:completed"], more=[])
@example(keys=[b"}:archived"], more=[])
@example(keys=[], more=[b"asynq:{q}:archived"])
def test_a_call_of_a_script_never_seen_is_counted_where_its_keys_concern_no_terminal_state(
    keys: list[bytes], more: list[bytes]
) -> None:
    """Of any other call it is for others to decide, and of one without KEYS."""
    command = [b"EVALSHA", b"u", b"%d" % len(keys), *keys, *more]
    answer = 1 if keys and not may_be_terminal(keys) else (command, len(keys))
    assert [recall(encode(command), SPECIAL, {b"u": None}, {}, {}) for recall in RECALL] == [answer] * 2
    if answer == 1:
        assert terminal_queue(keys) is None


PREFIXES = st.lists(st.sampled_from([b"asynq:{q}:", b"asynq:{r}:", b"", b"asynq:{q}"]), max_size=3)


@given(keys=st.lists(KEY, max_size=5), prefixes=PREFIXES, unseen=st.booleans())
@example(keys=[b"asynq:{q}:active", b"asynq:{q}:lease"], prefixes=[b"asynq:{r}:", b"asynq:{q}:"], unseen=False)
@example(keys=[b"asynq:{q}:active", b"asynq:{q}:archived"], prefixes=[b"asynq:{q}:"], unseen=True)
def test_a_call_of_a_script_that_a_rule_is_about_elsewhere_is_counted(
    keys: list[bytes], prefixes: list[bytes], unseen: bool
) -> None:
    """If its first key is one of a queue that no rule is about; and, of a text never seen, none may be terminal."""
    command = [b"EVALSHA", b"u", b"%d" % len(keys), *keys]
    passes = bool(keys) and keys[0].startswith(tuple(prefixes)) and not (unseen and may_be_terminal(keys))
    known = {b"u": (prefixes,) if unseen else prefixes}
    answer = 1 if passes else (command, len(keys))
    assert [recall(encode(command), SPECIAL, known, {}, {}) for recall in RECALL] == [answer] * 2


@pytest.mark.parametrize("keys", [b"x", b"9", b"01", b"-1"])
def test_a_call_that_redis_refuses_is_never_counted_by_its_keys(keys: bytes) -> None:
    """What its KEYS are is not known."""
    command = [b"EVALSHA", b"u", keys, b"k"]
    assert [recall(encode(command), SPECIAL, {b"u": None}, {}, {}) for recall in RECALL] == [(command, -1)] * 2


@pytest.mark.parametrize("arguments", [(), (b"",), (b"1", b"2"), (b"$1\r\nx\r\n" * 9, b"1")])
def test_a_poll_becomes_what_is_remembered_of_its_beginning(arguments: tuple[bytes, ...]) -> None:
    """The bytes up to the last of the KEYS are replaced, and all behind them stays."""
    for keys in ((), (b"k1",), (b"k1", b"k2\r\n")):
        command = [b"evalsha", b"s", b"%d" % len(keys), *keys, *arguments]
        chunk = encode(command)
        beginning = beginning_of(chunk, command, 3 + len(keys))
        assert chunk.startswith(beginning)
        assert [recall(chunk, SPECIAL, {}, {beginning: b"instead"}, {}) for recall in RECALL] == [
            b"instead" + chunk[len(beginning) :]
        ] * 2


@given(command=st.lists(st.one_of(WORDS, st.sampled_from(POLL)), min_size=1, max_size=8), change=st.integers(0, 6))
@example(command=[b"EVALSHA", b"s" * 40, b"02", b"k1", b"k2", b"a1", b"a2"], change=2)
@example(command=[b"EVALSHA", b"s" * 40, b"2"], change=2)
@example(command=[b"EVALSHA", b"s" * 40], change=0)
@example(command=[b"EVALSHA", b"s" * 40, b"", b"k1", b"k2", b"a1", b"a2"], change=1)
@example(command=[b"EVALSHA", b"s" * 40, b"x2", b"k1", b"k2", b"a1", b"a2"], change=1)
@example(command=[b"evalsha", b"s" * 40, b"2", b"k1", b"k2", b"a1", b"a2"], change=2)
def test_what_is_not_remembered_comes_out(command: Command, change: int) -> None:
    """A call that differs from the one remembered in anything up to its last KEY is another one."""
    near = [*POLL[:change], *command[change:]]
    for given_command in (command, near):
        chunk = encode(given_command)
        instead = {BEGINNING: BEGINNING.upper()}
        same = chunk.startswith(BEGINNING)
        answer = expected([given_command]) if not same else BEGINNING.upper() + chunk[len(BEGINNING) :]
        assert [recall(chunk, SPECIAL, {}, instead, {}) for recall in RECALL] == [answer] * 2
        # Among other commands it is never looked at.
        assert [recall(chunk + PING, SPECIAL, {}, instead, {}) for recall in RECALL] == [
            expected([given_command, [b"PING"]]),
        ] * 2


@pytest.mark.compiled
@pytest.mark.parametrize("count", [100, 1000, 1024 * 1024])
def test_a_command_of_many_arguments_needs_a_closer_recall(count: int) -> None:
    """Nothing of that size is made room for by its header alone."""
    for chunk in (b"*%d\r\n" % count, encode([b"a"] * 100)):
        assert RECALL[0](chunk, SPECIAL, {}, {}, {}) is None


@pytest.mark.compiled
def test_only_bytes_are_looked_at() -> None:
    """Anything else is a mistake of the caller's."""
    mistakes: list[tuple[object, ...]] = [(bytearray(PING), SPECIAL, {}, {}), (PING, (), {}, {}), (PING, SPECIAL, {})]
    for arguments in [*mistakes, (PING, SPECIAL, (), {}), (PING, SPECIAL, {}, ())]:
        with pytest.raises(TypeError):
            RECALL[0](*arguments)


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        ((b"0",), 0),
        ((b"1", b"k"), 1),
        ((b"2", b"k", b"k", b"a"), 2),
        ((b"10", *[b"k"] * 10), 10),
        ((b"96", *[b"k"] * 96), 96),
        ((b"1",), -1),
        ((b"97", *[b"k"] * 96), -1),
        ((b"01", b"k"), -1),
        ((b"00",), -1),
        ((b"+1", b"k"), -1),
        ((b"-1", b"k"), -1),
        ((b" 1", b"k"), -1),
        ((b"1 ", b"k"), -1),
        ((b"x", b"k"), -1),
        ((b"", b"k"), -1),
        ((b"9" * 20, b"k"), -1),
        ((), -1),
    ],
)
def test_the_number_of_keys_is_handed_over(arguments: tuple[bytes, ...], keys: int) -> None:
    """It is read once, with the command, in the one form that Redis takes; -1 where Redis refuses the call."""
    command = [b"EVALSHA", b"s", *arguments]
    assert numkeys(command) == keys
    assert [recall(encode(command), SPECIAL, {}, {}, {}) for recall in RECALL] == [(command, keys)] * 2


def test_a_command_may_have_more_keys_than_the_compiled_part_looks_at() -> None:
    """Up to as many as there are arguments."""
    assert numkeys([b"EVALSHA", b"s", b"1000", *[b"k"] * 1000]) == 1000


# --- what is remembered -------------------------------------------------------------------------------------------


def remembered(talk: Conversation, poll: tuple[bytes, ...] = dequeue(DEQUEUE_SHA)) -> dict[bytes, bytes]:
    """Return what is remembered once a client has sent a poll."""
    talk.downstream_sends(poll)
    return talk.shared.memory.polls


def test_a_poll_is_remembered_by_its_keys() -> None:
    """With its first call, and for any arguments behind the KEYS."""
    talk = Conversation().knows(DEQUEUE)
    came, goes = encode(dequeue(DEQUEUE_SHA)), encode(dequeue(talk.wrapper_sha(DEQUEUE)))
    [(beginning, instead)] = remembered(talk).items()
    assert came[len(beginning) :] == goes[len(instead) :]
    assert came == beginning + came[len(beginning) :]
    assert goes == instead + goes[len(instead) :]
    assert beginning.endswith(b"asynq:{q}:lease\r\n")


def test_only_polls_are_remembered() -> None:
    """What becomes of any other call depends on more than its KEYS."""
    talk = Conversation().knows(COMPLETE, DEQUEUE)
    talk.registry.learn(OTHER)
    assert remembered(talk, complete(sha_of(COMPLETE))) == {}
    assert remembered(talk, (b"EVALSHA", sha_of(OTHER), b"1", b"k")) == {}
    assert remembered(talk, dequeue(DEQUEUE, name=b"EVAL")) == {}
    assert remembered(talk, dequeue(DEQUEUE_SHA, name=b"EvalSha")) == {}


def test_a_poll_that_fails_open_is_told_of_each_time() -> None:
    """One with too few arguments is not remembered, or it would be told of once."""
    talk = Conversation().knows(DEQUEUE)
    for _ in range(3):
        assert remembered(talk, dequeue(DEQUEUE_SHA)[:-1]) == {}
    assert len(talk.complaints()) == 3


@pytest.mark.parametrize("mode", Mode)
def test_a_memory_holds_for_one_policy(mode: Mode) -> None:
    """Another policy, however like it is to the one before, begins with nothing remembered."""
    talk = Conversation().knows(DEQUEUE)
    remembered(talk)
    rewriter = Rewriter(Policy((), mode=mode), set())
    assert talk.shared.memory.holds(talk.shared.rewriter)
    assert not talk.shared.memory.holds(rewriter)
    talk.shared.rewriter = rewriter
    poll = encode(dequeue(DEQUEUE_SHA))
    for _ in range(2):
        assert talk.downstream_sends_bytes(poll) == poll
        assert list(talk.shared.memory.polls.values()) == [
            poll[: -len(b"$10\r\n1700000000\r\n$12\r\nasynq:{q}:t:\r\n")]
        ]
    assert talk.shared.memory.holds(rewriter)
    assert talk.session.commands == 3


def test_a_memory_holds_while_no_wrapper_s_status_changes() -> None:
    """SCRIPT EXISTS puts the wrapper in doubt: the next poll waits for it, and is rewritten once it is loaded."""
    talk = Conversation().knows(DEQUEUE)
    rewritten = encode(dequeue(talk.wrapper_sha(DEQUEUE)))
    for _ in range(2):
        assert talk.downstream_sends(dequeue(DEQUEUE_SHA)) == rewritten
    talk.downstream_sends((b"SCRIPT", b"EXISTS", DEQUEUE_SHA))
    assert not talk.shared.memory.holds(talk.shared.rewriter)
    assert talk.downstream_sends(dequeue(DEQUEUE_SHA)) == b""
    assert talk.activation_ends(Status.ACTIVE) == rewritten
    for _ in range(2):
        assert talk.downstream_sends(dequeue(DEQUEUE_SHA)) == rewritten
    assert talk.shared.memory.holds(talk.shared.rewriter)


def test_a_script_flush_ends_what_is_remembered() -> None:
    """Whether the wrapper is still there is not known; the next poll is decided about again."""
    talk = Conversation().knows(DEQUEUE)
    remembered(talk)
    talk.downstream_sends((b"SCRIPT", b"FLUSH"))
    assert not talk.shared.memory.holds(talk.shared.rewriter)


def test_asking_changes_nothing() -> None:
    """What no longer holds stays there until something else is remembered."""
    memory = Memory(registry := ScriptRegistry(), WholeCommands())
    rewriter = Rewriter(Policy(()), set())
    assert not memory.holds(rewriter)
    memory.remember(encode(POLL), POLL, 2, encode(POLL), rewriter)
    registry.activated(registry.learn(DEQUEUE))
    assert not memory.holds(rewriter)
    assert memory.polls == {BEGINNING: BEGINNING}
    memory.remember(encode(other := [*POLL[:3], b"k3", *POLL[4:]]), other, 2, encode(other), rewriter)
    assert memory.holds(rewriter)
    assert len(memory.polls) == 1


# --- scripts never seen -------------------------------------------------------------------------------------------

DONE = (b"EVALSHA", b"d" * 40, b"3", b"asynq:{q}:active", b"asynq:{q}:lease", b"asynq:{q}:t:1", b"1")


def test_a_script_never_seen_goes_the_short_way_from_its_second_call_on() -> None:
    """Redis has known it for long; each call is counted and goes as it came."""
    talk = Conversation()
    asked = 0

    def count(*arguments: object) -> Recalled:
        nonlocal asked
        seen: Recalled = talk.shared.memory.recall(*arguments)  # type: ignore[arg-type] # as the session gives them
        asked += type(seen) is int
        return seen

    talk.session._recall = count
    assert [talk.downstream_sends(DONE) for _ in range(3)] == [encode(DONE)] * 3
    assert asked == 2
    assert talk.session.commands == 3


def test_a_call_of_it_that_may_end_a_task_is_still_asked_for_its_text() -> None:
    """However often it went the short way."""
    talk = Conversation()
    for _ in range(2):
        talk.downstream_sends(DONE)
    ending = complete(DONE[1])
    assert talk.downstream_sends(ending) == encode((ending[0], IMPOSSIBLE_SHA, *ending[2:]))


def test_a_script_whose_text_comes_is_unseen_no_longer() -> None:
    """From then on its text says what becomes of its calls."""
    talk = Conversation()
    talk.downstream_sends((DONE[0], sha_of(COMPLETE), *DONE[2:]))
    assert talk.registry.untouched == {sha_of(COMPLETE): None}
    talk.knows(COMPLETE)
    assert talk.registry.untouched == {}
    assert talk.downstream_sends(complete(sha_of(COMPLETE))) != encode(complete(sha_of(COMPLETE)))


# --- polls of a client --------------------------------------------------------------------------------------------


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


# --- how a task ends that is like others --------------------------------------------------------------------------


@pytest.mark.compiled
def test_what_is_remembered_of_scripts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit it begins anew."""
    monkeypatch.setattr(fast_path, "_MAX_ENDING", 1)
    talk = Conversation().knows(COMPLETE, ARCHIVE)
    archiving = (
        b"EVALSHA",
        sha_of(ARCHIVE),
        b"3",
        TASK,
        ACTIVE,
        b"asynq:{q}:archived",
        b"1",
        MESSAGE,
        b"9",
        b"1",
        b"2",
    )
    for command in (complete(sha_of(COMPLETE)), archiving):
        talk.downstream_sends(command)
    assert list(talk.shared.memory.endings) == [sha_of(ARCHIVE)]


def test_calls_of_one_script_are_remembered_side_by_side() -> None:
    """Those of one type do not drive out those of another."""
    talk = Conversation().knows(COMPLETE)
    for task_type in ("mail", "report"):
        talk.downstream_sends(complete(sha_of(COMPLETE), task=encode_task(task_type, "1")))
    assert len(talk.shared.memory.endings[sha_of(COMPLETE)].terms) == 2


ENDING = complete(sha_of(COMPLETE))


def remembering(*calls: tuple[bytes, ...]) -> Conversation:
    """Return a conversation with a client that has made such calls, which have been decided about."""
    talk = Conversation().knows(COMPLETE, ARCHIVE)
    for call in calls:
        talk.downstream_sends(call)
    talk.upstream_replies(*[b"+OK\r\n"] * len(calls))
    talk.observer.outcomes.clear()
    return talk


@pytest.mark.compiled
@pytest.mark.parametrize("kept", [DAY, -1, 2**64])
def test_an_ending_goes_the_short_way(kept: int) -> None:
    """Compiled or not, of another task with another message too; and only a call that is like one before."""
    talk = remembering(ENDING)
    message = encode_task("mail", "2", headers={"traceparent": "00-a", "tracestate": "b"})
    other = complete(sha_of(COMPLETE), at=3_000_000, task=message, task_id="2")
    known = talk.shared.memory.endings
    for calls in known.values():  # numbers as no policy makes them are left to Python
        terms = {alike: each._replace(added=each.added if kept == DAY else kept) for alike, each in calls.terms.items()}
        known = {sha_of(COMPLETE): calls._replace(terms=terms)}
    for call in (ENDING, other, complete(sha_of(COMPLETE), name=b"evalsha")):
        compiled, plain = (recall(encode(call), SPECIAL, {}, {}, known) for recall in RECALL)
        if kept == 2**64:
            assert compiled == (list(call), 2)
        else:
            assert compiled == plain
            assert type(plain) is tuple
            assert type(plain[1]) is Decision
    for call in ((*ENDING, b"more"), (*ENDING[:2], b"1", *ENDING[3:]), (b"EvalSha", *ENDING[1:]), ENDING[:2]):
        answer = (list(call), numkeys(list(call)))
        assert [recall(encode(call), SPECIAL, {}, {}, known) for recall in RECALL] == [answer] * 2


def instead(of: Any, **items: object) -> Any:
    """Return a tuple with other items, whatever they are."""
    return of._replace(**items)


@pytest.mark.compiled
def test_the_compiled_part_takes_nothing_for_what_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands otherwise than in the tuples that it knows is left to who decides."""
    monkeypatch.delattr(Remembered, "recall")  # nothing here is Python's
    calls = remembering(ENDING).shared.memory.endings[sha_of(COMPLETE)]
    ((alike, terms),) = calls.terms.items()
    chunk = encode(ENDING)

    def recalled(other: object) -> object:
        return RECALL[0](chunk, SPECIAL, {}, {}, {ENDING[1]: other})

    undecided = list(ENDING), 2
    assert recalled(calls) != undecided
    others: list[object] = [5, (), tuple(calls)[:-1], instead(calls, terms=5)]
    others += [instead(calls, **{name: value}) for name in calls._fields[:10] for value in (-1, 9, 2**70, 1.0, None)]
    others += [instead(calls, **{name: 8}) for name in calls._fields[1:10]]
    others += [instead(calls, retains=False, own_seconds=b"5"), instead(calls, sha="x"), instead(calls, clock=5)]
    odd = {
        "prefix": ("x", 5),
        "decision": (5, tuple(terms.decision)[1:]),
        **dict.fromkeys(("head", "rest", "score"), ("x", None)),
        **dict.fromkeys(("age", "added"), ("x", 2**62, -(2**62), 1.0)),
        "argv": (5, (5,), ((1, 2, 3),), ((1, 5),), ((-1, b""),), ((4, b""),), ((2**70, b""),), (("x", b""),)),
    }
    for name, values in odd.items():
        for value in values:
            others.append(instead(calls, terms={alike: instead(terms, **{name: value})}))
    others += [instead(calls, terms={alike: 5}), instead(calls, terms={alike: tuple(terms)[1:]})]
    for other in others:
        assert recalled(other) == undecided, other


class Failing:
    """A monotonic clock that fails once."""

    failed = False

    def __call__(self) -> float:
        """Fail."""
        failed, self.failed = self.failed, True
        return 0.0 if failed else 1 // 0


@pytest.mark.compiled
@pytest.mark.parametrize("elapsed", [Failing, lambda: iter(("x", 0.0, 0.0)).__next__])
def test_what_goes_wrong_with_what_is_remembered_is_decided_afresh(elapsed: Callable[[], Callable[[], float]]) -> None:
    """The call comes to the same, compiled or not, and so does the next one, which is remembered again."""
    expected = encode(completed(remembering().wrapper_sha(COMPLETE)))
    for compiled in (True, False):
        talk = remembering(ENDING)
        if not compiled:
            talk.session._recall = talk.shared.memory._recall
        talk.registry.clock.note(0.0, 0.0, 0.0, elapsed())
        assert [talk.downstream_sends(ENDING) for _ in range(2)] == [expected] * 2
        talk.upstream_replies(*[b"+OK\r\n"] * 2)
        assert talk.told() == [("ttl", b"+OK")] * 2
        assert talk.complaints() == []
