"""Which reply answers which decision, and when a decision is told of."""

import pytest

import asynq_ttl.session.pending
from asynq_ttl.events import Action, Decision, Enqueue
from asynq_ttl.rewriting.registry import sha_of
from asynq_ttl.session.pending import Pending
from asynq_ttl.wire.commands import encode
from support.conversation import DAY, Conversation, Recorder, complete, completed, pipeline
from support.small_scripts import COMPLETE

OK = b"+OK\r\n"
NOSCRIPT = b"-NOSCRIPT No matching script.\r\n"
PING = (b"PING",)
COMPLETE_SHA = sha_of(COMPLETE)


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


def test_a_reply_to_another_command_settles_nothing() -> None:
    """A decision waits for its own reply, though one to an earlier command comes by itself."""
    talk = Conversation().knows(COMPLETE)
    talk.downstream_sends(PING, complete(COMPLETE_SHA))
    talk.upstream_replies(b"+PONG\r\n")
    assert talk.told() == []
    talk.upstream_replies(b"+OK\r\n")
    assert talk.told() == [("ttl", b"+OK")]


@pytest.mark.parametrize("reply", [b"-MOVED 1 h:1\r\n", b"-ASK 1 h:1\r\n"])
def test_a_decision_that_is_redirected_is_told_of(reply: bytes) -> None:
    """The redirection is an outcome like any error, and a sign."""
    talk = Conversation().knows(COMPLETE)
    talk.session.receive_downstream(pipeline(complete(COMPLETE_SHA)))
    talk.upstream_replies(reply)
    assert talk.observer.signs == ["redirect"]
    assert len(talk.told()) == 1


DECISION = Decision("complete", "asynq.complete", "q", "completed", Action.TTL, enforced=True)


def waiting(*numbers: int) -> tuple[Pending, Recorder]:
    """Return decisions about commands with these numbers that wait, and who is told of them."""
    recorder = Recorder()
    pending = Pending(recorder, lambda: 7, lambda _database, _reply: None)
    for number in numbers:
        pending.expect(DECISION, number, database=number)
    return pending, recorder


@pytest.mark.parametrize("step", [1, 2, 5, 1_000])
def test_the_nth_reply_answers_the_nth_command(step: int) -> None:
    """However the replies are cut, and whatever they are; those to other commands and pushes are passed over."""
    pending, recorder = waiting(2, 3, 5)
    replies = b"+A\r\n$1\r\nb\r\n>1\r\n+push\r\n*2\r\n:1\r\n:2\r\n+D\r\n-E\r\n+F\r\n"
    for at in range(0, len(replies), step):
        pending.receive(replies[at : at + step])
    assert [(outcome.database, outcome.reply) for outcome in recorder.outcomes] == [(2, b"$1"), (3, b"*2"), (5, b"-E")]
    assert (len(pending), pending.replies, pending.counting) == (0, 6, True)


def test_a_reply_is_told_by_its_first_bytes() -> None:
    """Of a long line 128 bytes are kept, whether the reply comes at once or in pieces."""
    line = b"-ERR " + b"x" * 1_000 + b"\r\n"
    for pieces in ([line], [line[:10], line[10:]]):
        pending, recorder = waiting(1)
        for piece in pieces:
            pending.receive(piece)
        assert [outcome.reply for outcome in recorder.outcomes] == [line[:128]]


def test_after_the_counting_nothing_waits() -> None:
    """What still waited is told of without a reply, and what comes later at once."""
    pending, recorder = waiting(1, 2)
    pending.receive(b"+A\r\n")
    pending.stop()
    pending.expect(DECISION, 3, database=3)
    pending.receive(b"+B\r\n+C\r\n")
    assert [(outcome.database, outcome.reply) for outcome in recorder.outcomes] == [(1, b"+A"), (2, b""), (3, b"")]
    assert (len(pending), pending.replies, pending.counting) == (0, 1, False)


# --- marks ------------------------------------------------------------------------------------------------------------

ENQUEUE = Enqueue(
    DECISION._replace(operation="replace", action=Action.REPLACED, rule=""), (("archived", "a"), ("archived", "b")),
    b"asynq:{q}:t:1", b"", b"{}",
)  # fmt: skip
SHADOWED = ENQUEUE._replace(decision=ENQUEUE.decision._replace(enforced=False))


def awaiting(*numbers: int, enqueue: Enqueue = ENQUEUE) -> tuple[Pending, Recorder]:
    """Return enqueues with these numbers that wait, and who is told of them."""
    pending, recorder = waiting()
    for number in numbers:
        assert pending.await_enqueue(enqueue, number, database=number)
    return pending, recorder


def rules(recorder: Recorder) -> list[tuple[int, str, bytes]]:
    """Return what was told: the database, the rule and the reply."""
    return [(outcome.database, outcome.decision.rule, outcome.reply) for outcome in recorder.outcomes]


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1_000])
def test_a_mark_never_reaches_the_client(step: int) -> None:
    """However the replies are cut. A number that answers something else is no mark, and a push is no answer."""
    pending, recorder = awaiting(2, 4, 5, 6, 7)
    pending.expect(DECISION, 8, database=8)
    replies = b":3\r\n:2\r\n>1\r\n:2\r\n$2\r\n:3\r\n:3\r\n:1\r\n:0\r\n-ERR\r\n+OK\r\n:3\r\n"
    told = b":3\r\n:1\r\n>1\r\n:2\r\n$2\r\n:3\r\n:1\r\n:1\r\n:0\r\n-ERR\r\n+OK\r\n:3\r\n"
    out = []
    for at in range(0, len(replies), step):
        piece = replies[at : at + step]
        if pending.marks:
            piece = pending.unmark(piece)
        else:
            pending.receive(piece)
        out.append(piece)
    assert b"".join(out) == told
    assert rules(recorder) == [(2, "a", b":1"), (4, "b", b":1"), (8, "", b"+OK")]
    assert (len(pending), pending.replies, pending.counting) == (0, 9, True)


@pytest.mark.parametrize("cut", range(1, 5))
def test_after_the_counting_a_mark_is_still_taken_out(cut: int) -> None:
    """What comes behind the last mark goes as it comes, whatever it is; nothing more is awaited."""
    pending, recorder = awaiting(2)
    pending.stop()
    assert not pending.await_enqueue(ENQUEUE, 3, database=0)
    assert pending.unmark(b"+OK\r\n" + b":3\r\n"[:cut]) + pending.unmark(b":3\r\n"[cut:]) == b"+OK\r\n:1\r\n"
    assert not pending.marks
    assert rules(recorder) == [(2, "b", b":1")]
    assert (len(pending), pending.counting) == (0, False)


def test_what_may_have_been_replaced_is_not_told() -> None:
    """The connection ends, or what comes is no reply; that goes to the client as it is."""
    pending, recorder = awaiting(1, 2)
    assert pending.unmark(b":") == b""
    assert pending.unmark(b"2\r\ngarbage\r\n:2\r\n") == b":1\r\ngarbage\r\n:2\r\n"
    assert (len(pending), list(pending.marks), pending.counting) == (0, [], False)
    assert rules(recorder) == [(1, "a", b":1")]
    pending, recorder = awaiting(1)
    pending.close()
    assert (len(pending), list(pending.marks), rules(recorder)) == (0, [], [])


def test_a_reply_that_begins_like_a_mark_is_held_until_it_ends_or_is_none() -> None:
    """A line without an end is no reply."""
    pending, _ = awaiting(1)
    assert pending.unmark(b":2" + b"2" * 100) == b""
    rest = b"2" * 2_000_000
    assert pending.unmark(rest) == b":2" + b"2" * 100 + rest
    assert not pending.marks


def test_an_enqueue_without_a_place_is_not_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then its reply must be no mark: too many wait, or Redis has said more than it was asked."""
    monkeypatch.setattr(asynq_ttl.session.pending, "MAX_PENDING", 1)
    pending, _ = awaiting(1)
    assert not pending.await_enqueue(ENQUEUE, 2, database=0)
    assert pending.unmark(b":1\r\n:1\r\n") == b":1\r\n:1\r\n"
    assert not pending.await_enqueue(ENQUEUE, 2, database=0)


def test_a_node_that_sends_the_client_elsewhere_is_a_sign() -> None:
    """It replies no mark, and nothing was replaced."""
    pending, recorder = awaiting(1, 2)
    assert pending.unmark(b"-MOVED 1 h:1\r\n-NOSCRIPT\r\n") == b"-MOVED 1 h:1\r\n-NOSCRIPT\r\n"
    assert (recorder.signs, rules(recorder)) == (["redirect"], [])


def test_in_shadow_mode_only_a_refusal_is_told() -> None:
    """No wrapper was sent, so no reply is a mark; whether the task would have been replaced others find out."""
    pending, recorder = awaiting(1, 2, 3, 4, enqueue=SHADOWED)
    assert not pending.marks
    pending.receive(b":1\r\n:0\r\n:-1\r\n-ERR\r\n")
    assert [(enqueue, outcome.database, outcome.reply) for enqueue, outcome in recorder.refusals] == [
        (SHADOWED, 2, b":0"),
        (SHADOWED, 3, b":-1"),
    ]
    assert rules(recorder) == []
