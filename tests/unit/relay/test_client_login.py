"""What is said with a client that has not shown a password yet."""

from pathlib import Path

import pytest

from asynq_ttl.relay.client_login import MAX_BYTES, MAX_WRONG, Conversation, Guard
from asynq_ttl.wire.commands import encode

AUTH = encode([b"AUTH", b"sesame"])
HELLO = encode([b"HELLO", b"3", b"AUTH", b"default", b"sesame", b"SETNAME", b"worker"])
PING = encode([b"PING"])


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    """Knows two passwords, the old one and the new one."""
    file = tmp_path / "passwords"
    file.write_text("sesame\n\nalibaba\n")
    return Guard(file, 10, lambda: (b"asynq", b"redis-sesame"))


@pytest.fixture
def talk(guard: Guard) -> Conversation:
    """A client that has just connected."""
    return Conversation(guard)


@pytest.mark.parametrize("command", [AUTH, encode([b"auth", b"alibaba"]), encode([b"AUTH", b"default", b"sesame"])])
def test_auth_lets_in(talk: Conversation, command: bytes) -> None:
    """The client is told so, and what it sent behind goes to Redis."""
    assert talk.receive(command + PING + b"*1\r\n$4\r\nPI") == b"+OK\r\n"
    assert talk.passed == PING + b"*1\r\n$4\r\nPI"
    assert not talk.over


def test_hello_with_auth_goes_on_without_it(talk: Conversation) -> None:
    """Redis answers HELLO, so the client gets the protocol it asked for; the password stays here."""
    assert talk.receive(HELLO + PING) == b""
    assert talk.passed == encode([b"HELLO", b"3", b"SETNAME", b"worker"]) + PING


@pytest.mark.parametrize("cut", range(1, len(AUTH)))
def test_the_password_may_come_in_pieces(talk: Conversation, cut: int) -> None:
    """Nothing is answered before the command is whole."""
    assert talk.receive(AUTH[:cut]) == b""
    assert talk.passed is None
    assert talk.receive(AUTH[cut:]) == b"+OK\r\n"
    assert talk.passed == b""


def test_everything_else_is_refused(talk: Conversation) -> None:
    """Each command is answered, in Redis's words, and the client may still log in."""
    hello = encode([b"HELLO", b"3"])
    answer = talk.receive(PING + b"*0\r\n" + hello + encode([b"HELLO"]) + encode([b"AUTH"]))
    assert [line[:7] for line in answer.split(b"\r\n")[:-1]] == [b"-NOAUTH"] * 4
    assert b"HELLO must be called" in answer
    assert talk.receive(AUTH) == b"+OK\r\n"


@pytest.mark.parametrize(
    "command",
    [
        encode([b"AUTH", b"sesam"]),
        encode([b"AUTH", b""]),
        encode([b"AUTH", b"somebody", b"sesame"]),
        encode([b"HELLO", b"2", b"AUTH", b"default", b"no"]),
    ],
)
def test_a_wrong_password_is_refused(guard: Guard, talk: Conversation, command: bytes) -> None:
    """As Redis would; after a number of them the client is hung up on."""
    for number in range(MAX_WRONG):
        assert not talk.over, number
        assert talk.receive(command).startswith(b"-WRONGPASS")
    assert talk.over
    assert talk.passed is None
    assert guard.wrong == MAX_WRONG


@pytest.mark.parametrize(
    "data",
    [
        b"PING\r\n",
        b"GET / HTTP/1.1\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n$4\r\nPINGxx",
        b"*2\r\n$4\r\nAUTH\r\n$100000\r\n" + b"x" * MAX_BYTES,
        b"*100000\r\n" + b"$1\r\nx\r\n" * (MAX_BYTES // 7 + 1),
    ],
)
def test_what_is_no_login_ends_the_conversation(talk: Conversation, data: bytes) -> None:
    """Inline commands, rubbish and what is too large are hung up on."""
    assert talk.receive(data).startswith(b"-")
    assert talk.over
    assert talk.passed is None


def test_quit_is_answered(talk: Conversation) -> None:
    """A client may leave."""
    assert talk.receive(encode([b"QUIT"]) + PING) == b"+OK\r\n"
    assert talk.over


def test_passwords_can_be_replaced(tmp_path: Path, guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    """The file is read at each login; without it nobody is let in. The log says so and holds no password."""
    file = tmp_path / "passwords"
    file.write_text("another")
    assert Conversation(guard).receive(AUTH).startswith(b"-WRONGPASS")
    assert Conversation(guard).receive(encode([b"AUTH", b"another"])) == b"+OK\r\n"
    file.unlink()
    assert Conversation(guard).receive(encode([b"AUTH", b"another"])).startswith(b"-WRONGPASS")
    assert "a client has shown a wrong password" in caplog.text
    assert "sesame" not in caplog.text


@pytest.mark.parametrize(
    ("command", "instead"),
    [
        ([b"AUTH", b"sesame"], [b"AUTH", b"asynq", b"redis-sesame"]),
        ([b"auth", b"default", b"alibaba"], [b"auth", b"asynq", b"redis-sesame"]),
        (
            [b"HELLO", b"3", b"SETNAME", b"w", b"AUTH", b"default", b"sesame"],
            [b"HELLO", b"3", b"SETNAME", b"w", b"AUTH", b"asynq", b"redis-sesame"],
        ),
        (
            [b"HELLO", b"2", b"auth", b"default", b"sesame", b"SETNAME", b"w"],
            [b"HELLO", b"2", b"auth", b"asynq", b"redis-sesame", b"SETNAME", b"w"],
        ),
        ([b"AUTH", b"somebody", b"sesame"], None),
        ([b"AUTH", b"wrong"], None),
        ([b"AUTH"], None),
        ([b"AUTH", b"default", b"sesame", b"more"], None),
        ([b"HELLO", b"3"], None),
        ([b"HELLO", b"3", b"AUTH", b"sesame"], None),
    ],
)
def test_a_client_that_was_let_in_may_show_its_password_again(
    guard: Guard, command: list[bytes], instead: list[bytes] | None
) -> None:
    """Redis gets the sidecar's credentials; whatever else a client shows is for Redis, and no wrong password here."""
    assert guard.again(command) == instead
    assert guard.wrong == 0
