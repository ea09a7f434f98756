import pytest

from asynq_ttl.events import FailOpen
from asynq_ttl.rewriting.registry import Status, sha_of
from asynq_ttl.session import renaming as renaming_module
from asynq_ttl.session.renaming import Directory, Renaming
from asynq_ttl.session.session import Session
from asynq_ttl.wire.commands import HOLD_BYTES, encode
from support.conversation import Conversation, complete, completed, dequeue, pipeline
from support.small_scripts import COMPLETE, DEQUEUE

OK = b"+OK\r\n"
NOSCRIPT = b"-NOSCRIPT No matching script.\r\n"
PING = (b"PING",)
COMPLETE_SHA, DEQUEUE_SHA = sha_of(COMPLETE), sha_of(DEQUEUE)


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


# --- learning and activation ------------------------------------------------------------------------------------


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


# --- rewriting --------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("step", [0, 1, 10])
def test_a_command_of_interest_is_taken_alike_alone_and_in_a_pipeline(step: int) -> None:
    """What it does to the connection does not depend on the chunk it comes in."""
    commands = ((b"SELECT", b"3"), (b"MULTI",), complete(b"0" * 40), (b"DISCARD",), complete(COMPLETE_SHA))
    together, apart = Conversation().knows(COMPLETE), Conversation().knows(COMPLETE)
    out = together.downstream_sends_bytes(pipeline(*commands), step)
    assert out == b"".join(apart.downstream_sends(command) for command in commands)
    for talk in (together, apart):
        assert (talk.session.database, talk.session.commands, talk.session.busy) == (3, 5, False)
        talk.upstream_replies(OK * 5)
        assert talk.told() == [("ttl", b"+OK")]


def test_a_command_that_is_alone_waits_too() -> None:
    """Its bytes are held until the activation has been tried, and counted as held."""
    talk = Conversation()
    data = encode(complete(COMPLETE, name=b"EVAL"))
    assert talk.session.receive_downstream(data) == b""
    assert (talk.session.held_bytes, talk.session.commands) == (len(data), 0)
    assert talk.activation_ends(Status.BROKEN) == data
    assert (talk.session.held_bytes, talk.session.commands) == (0, 1)


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


# --- credentials -------------------------------------------------------------------------------------------------


def test_a_login_may_be_replaced() -> None:
    """Whoever knows says what goes to Redis instead; without anybody who knows it goes as it came."""
    data = pipeline((b"AUTH", b"a"), (b"HELLO", b"3"), PING)
    plain = Conversation()
    assert plain.downstream_sends_bytes(data) == data
    talk = Conversation(login=lambda command: [b"AUTH", b"b"] if command[0] == b"AUTH" else None)
    assert talk.downstream_sends_bytes(data) == pipeline((b"AUTH", b"b"), (b"HELLO", b"3"), PING)
    assert plain.session.commands == talk.session.commands == 3
    assert talk.downstream_sends((b"AUTH", b"a")) == encode((b"AUTH", b"b"))


# --- a node of a cluster ------------------------------------------------------------------------------------


class _Ports:
    """Every node is at one port."""

    def of_node(self, node_id: str, host: str, port: int) -> int:
        """Return it."""
        return 6400

    def at_address(self, host: str, port: int, slot: int) -> int:
        """Return it."""
        return 6400


def _renamed() -> tuple[Session, Renaming]:
    renaming = Renaming(Directory(_Ports(), lambda: 0, lambda _: None))
    renaming.tell_host(b"side.car")
    return Session(Conversation().shared, questions=renaming), renaming


_OLD = b"*1\r\n*3\r\n:0\r\n:5\r\n*3\r\n$1\r\nh\r\n:7\r\n$40\r\n" + b"a" * 40 + b"\r\n"
_NEW = _OLD.replace(b"$1\r\nh\r\n:7", b"$8\r\nside.car\r\n:6400")
_QUESTION = pipeline((b"CLUSTER", b"SLOTS"))


@pytest.mark.parametrize(
    ("commands", "replies", "told"),
    [
        (_QUESTION, _OLD, _NEW),
        (pipeline((b"CLUSTER",), (b"GET", b"a"), (b"cluster", b"slots"), PING), b"-ERR\r\n:1\r\n" + _OLD + _OLD,
         b"-ERR\r\n:1\r\n" + _NEW + _OLD),
        (pipeline((b"MULTI",), (b"GET", b"a"), (b"CLUSTER", b"SLOTS"), (b"EXEC",)),
         b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n" + _OLD + _OLD, b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n" + _OLD + _NEW),
        (pipeline((b"MULTI",), (b"CLUSTER", b"SLOTS"), (b"DISCARD",)), b"+OK\r\n+QUEUED\r\n" + _OLD,
         b"+OK\r\n+QUEUED\r\n" + _OLD),
        (pipeline((b"MULTI",), (b"CLUSTER", b"SLOTS"), (b"RESET",)), b"+OK\r\n+QUEUED\r\n" + _OLD,
         b"+OK\r\n+QUEUED\r\n" + _OLD),
        (pipeline((b"SUBSCRIBE", b"c")) + _QUESTION, b">3\r\n+subscribe\r\n+c\r\n:1\r\n" + _OLD,
         b">3\r\n+subscribe\r\n+c\r\n:1\r\n" + _NEW),
    ],
)  # fmt: skip
def test_what_asks_for_nodes_is_answered_with_other_names(commands: bytes, replies: bytes, told: bytes) -> None:
    """Whichever reply it is; the commands go as they came."""
    session, renaming = _renamed()
    assert session.receive_downstream(commands) == commands
    assert renaming.receive(replies) == told


def test_too_many_questions_at_once_are_refused_by_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no reply is left that nobody knows of."""
    monkeypatch.setattr(renaming_module, "MAX_DUE", 1)
    session, _ = _renamed()
    sent = session.receive_downstream(_QUESTION + _QUESTION)
    assert sent == _QUESTION + pipeline((b"CLUSTER", b"TOO-MANY-UNANSWERED"))
