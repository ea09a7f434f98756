"""Asks clients for a password of the sidecar's own before anything of theirs reaches Redis.

Invariants:

* Until a client has shown a password, no byte of it goes upstream and no upstream connection is opened for it.
* What an unknown client can make the sidecar hold is bounded in bytes, in time and in number.
* A password is in no answer and in no log.

Once a client has shown it, the connection is handed over to the relay for good. Redis knows nothing of the sidecar's
passwords, so a later AUTH or HELLO that shows one is sent on with the sidecar's own credentials instead.
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from asynq_ttl.net.secret_file import SecretFileError, read_secrets
from asynq_ttl.wire.commands import Command, CommandFramer, WholeCommands, encode

_log = logging.getLogger("asynq_ttl.gate")

# How long a client may take to show a password, how often it may be wrong, and how much it may send. (Security limits.)
PATIENCE_SECONDS = 10.0
MAX_WRONG = 10
MAX_BYTES = 16 * 1024
_WARNING_INTERVAL_SECONDS = 10.0

_OK = b"+OK\r\n"
# Redis's own words, which clients know.
_NOAUTH = b"-NOAUTH Authentication required.\r\n"
_NOAUTH_HELLO = (
    b"-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> "
    b"<pass> option can be used to authenticate the client and select the RESP protocol version at the same time\r\n"
)
_WRONGPASS = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
_PROTOCOL = b"-ERR Protocol error: the sidecar's password is asked for first\r\n"


class Guard:
    """Knows the passwords, and how many unknown clients there are.

    Args:
        file: the passwords, one a line. It is read at each login, so that it can be replaced.
        max_waiting: how many clients may be unknown at a time.
        credentials: the user name and the password that Redis takes for those the sidecar knows.
    """

    def __init__(self, file: Path, max_waiting: int, credentials: Callable[[], tuple[bytes, bytes]]) -> None:
        self.whole = WholeCommands()
        self.waiting = 0
        self.max_waiting = max_waiting
        self.wrong = 0
        """Wrong passwords so far."""
        self._file = file
        self._credentials = credentials
        self._warned = 0.0

    def let_wait(self) -> None:
        """Count one more client that is unknown yet."""
        self.waiting += 1

    def forget(self) -> None:
        """Count one unknown client less: it is let in, or it has gone."""
        self.waiting -= 1

    def takes(self, user: bytes, password: bytes) -> bool:
        """Say whether a user name and a password are right."""
        if self._knows(user, password):
            return True
        self.wrong += 1
        self._tell("a client has shown a wrong password")
        return False

    def again(self, command: Command) -> Command | None:
        """Return what goes to Redis for an AUTH or HELLO of a client that was let in; None for it as it came.

        Raises:
            OSError: the sidecar's own credentials cannot be read.
        """
        at = _shown_at(command)
        if not at or not self._knows(*_shown(command, at)):
            return None
        rest = command[at + 2 :] if command[0].upper() == b"HELLO" else []
        return [*command[:at], *self._credentials(), *rest]

    def _knows(self, user: bytes, password: bytes) -> bool:
        try:
            known = read_secrets(self._file)
        except SecretFileError as error:
            self._tell(f"the password file {error}")
            return False
        # All of them are compared, so that the time does not tell which one it was.
        right = [hmac.compare_digest(password, each) for each in known]
        return user.lower() == b"default" and any(right)

    def _tell(self, what: str) -> None:
        now = time.monotonic()
        if not self._warned or now - self._warned > _WARNING_INTERVAL_SECONDS:
            self._warned = now
            _log.warning("not let in: %s", what)


class Conversation:
    """What is said with an unknown client. No I/O."""

    def __init__(self, guard: Guard) -> None:
        self.over = False
        """Whether to hang up."""
        self.passed: bytes | None = None
        """What the client has sent for Redis, once it is let in: without its password."""
        self._guard = guard
        self._held = b""
        self._wrong = 0

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the client; return what to answer."""
        data = self._held + data
        framer = CommandFramer(self._guard.whole, lambda _head, _size: False)
        _, commands, position = framer.feed(data)
        answers: list[bytes] = []
        for command in commands:
            plain = _plain(command)
            if not plain or not data.startswith(plain, position):
                self.over = True
                break
            position += len(plain)
            answer, instead = self._answer(command)
            answers.append(answer)
            if instead is not None:
                self.passed = instead + data[position:]
            if instead is not None or self.over:
                return b"".join(answers)
        self._held = data[position:]
        if self.over or framer.opaque or framer.passing or len(self._held) > MAX_BYTES:
            self.over = True
            answers.append(_PROTOCOL)
        return b"".join(answers)

    def _answer(self, command: Command) -> tuple[bytes, bytes | None]:
        """Return what to answer, and what goes to Redis instead of the command if it lets the client in."""
        if not command:
            return b"", None  # "*0": Redis skips it without a reply
        name = command[0].upper()
        at = _shown_at(command)
        if at:
            if not self._right(*_shown(command, at)):
                return _WRONGPASS, None
            return (_OK, b"") if name == b"AUTH" else (b"", encode([*command[: at - 1], *command[at + 2 :]]))
        if name == b"HELLO":
            return _NOAUTH_HELLO, None
        self.over = name == b"QUIT"
        return (_OK if self.over else _NOAUTH), None

    def _right(self, user: bytes, password: bytes) -> bool:
        if self._guard.takes(user, password):
            return True
        self._wrong += 1
        self.over = self._wrong >= MAX_WRONG
        return False


class Gate(asyncio.Protocol):
    """The connection of a client that is not known yet.

    Args:
        guard: knows the passwords.
        accept: makes the protocol that the connection is handed over to.
    """

    def __init__(self, guard: Guard, accept: Callable[[], asyncio.Protocol]) -> None:
        self._guard = guard
        self._accept = accept
        self._conversation = Conversation(guard)
        self._transport: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the client to say something, for a while."""
        self._transport = cast("asyncio.Transport", transport)  # a stream's transport, though uvloop's is no subclass
        self._guard.let_wait()
        if self._guard.waiting > self._guard.max_waiting:
            self._transport.abort()
            return
        self._patience = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        """Answer, and let the client in or hang up."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        conversation = self._conversation
        answer = conversation.receive(data)
        if answer:
            transport.write(answer)
        if conversation.over:
            transport.close()
        elif conversation.passed is not None:
            self._forget()
            protocol = self._accept()
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
            if conversation.passed:
                protocol.data_received(conversation.passed)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """Forget the client."""
        self._forget()

    def _forget(self) -> None:
        """Count the client no longer among the unknown ones."""
        self._transport = None
        self._guard.forget()
        if self._patience is not None:
            self._patience.cancel()


def _shown_at(command: Command) -> int:
    """Return where an AUTH or HELLO has its credentials; 0 where it is neither, or has none."""
    name = command[0].upper()
    if name == b"AUTH" and len(command) in (2, 3):
        return 1
    at = next((at for at, word in enumerate(command) if at > 1 and word.upper() == b"AUTH"), 0)
    return at + 1 if name == b"HELLO" and at and len(command) >= at + 3 else 0


def _shown(command: Command, at: int) -> tuple[bytes, bytes]:
    """Return the user name and the password in an AUTH or HELLO."""
    return (command[at], command[at + 1]) if len(command) > at + 1 else (b"default", command[at])


def _plain(command: Command) -> bytes:
    """Return the plain form of a command; nothing where it has none."""
    try:
        return encode(command)
    except TypeError:
        return b""
