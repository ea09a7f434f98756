"""The replies of all masters to one command, as one reply. Pure.

Invariant: where a master replies with an error, the client gets an error; it never gets a part for the whole. (To
`KILL` it gets one only if there is nothing to kill at any master.)
"""

from collections.abc import Callable, Sequence

from asynq_ttl.wire.cluster.topology import NoTopologyError
from asynq_ttl.wire.cluster.values import encode_value, items_of, parse_reply
from asynq_ttl.wire.commands import Command, encode

# A cursor says which master is next, by its number, and where to go on there. So many masters there may be.
_MASTERS = 1_024
_NOT_UNDERSTOOD = b"-ERR asynq-ttl: the replies of the cluster's masters cannot be put together\r\n"
_NO_MASTER = b"-ERR asynq-ttl: there is no master with the number in this cursor\r\n"
_MINUS = ord("-")

Merge = Callable[[Sequence[bytes]], bytes]
"""Takes the whole replies of the masters, none of them an error."""


def _first(replies: Sequence[bytes]) -> bytes:
    return replies[0]


def _total(replies: Sequence[bytes]) -> bytes:
    return b":%d\r\n" % sum(int(reply[1:]) for reply in replies)


def _least(replies: Sequence[bytes]) -> bytes:
    return b":%d\r\n" % min(int(reply[1:]) for reply in replies)


def _least_of_each(replies: Sequence[bytes]) -> bytes:
    rows = [[int(bytes(item)[1:]) for item in items_of(parse_reply(reply))] for reply in replies]  # type: ignore[arg-type] # an integer is bytes
    least = [min(column) for column in zip(*rows, strict=True)]
    return b"*%d\r\n" % len(least) + b"".join(b":%d\r\n" % number for number in least)


def _joined(replies: Sequence[bytes]) -> bytes:
    heads = [reply.index(b"\n") + 1 for reply in replies]
    count = sum(int(reply[1:head]) for reply, head in zip(replies, heads, strict=True))
    return b"*%d\r\n" % count + b"".join(reply[head:] for reply, head in zip(replies, heads, strict=True))


_MERGES: dict[bytes, Merge] = {
    b"DBSIZE": _total,
    b"KEYS": _joined,
    b"SCRIPT|EXISTS": _least_of_each,
    b"WAIT": _least,
    b"WAITAOF": _least_of_each,
}


def merge(name: bytes, replies: Sequence[bytes]) -> bytes:
    """Return the reply to a command that went to all masters.

    Args:
        name: the command, as `destinations.name_of` has it.
        replies: one for each master.
    """
    errors = [reply for reply in replies if reply[0] == _MINUS]
    if name.endswith(b"|KILL"):
        return next((reply for reply in replies if reply[0] != _MINUS), replies[0])
    if errors:
        return errors[0]
    try:
        return _MERGES.get(name, _first)(replies)
    except (ValueError, TypeError, NoTopologyError):
        return _NOT_UNDERSTOOD


class Scan:
    """One step of a SCAN through all masters.

    Args:
        command: the command; its cursor is what the step before has returned.
        masters: how many masters there are.
    """

    def __init__(self, command: Command, masters: int) -> None:
        cursor = command[1] if len(command) > 1 else b""
        number = int(cursor) if cursor.isdigit() and len(cursor) <= 20 else 0
        self.master = number % _MASTERS
        """The number of the master that it goes to."""
        self.fault = b"" if self.master < masters else _NO_MASTER
        """What the client gets instead, where there is no such master."""
        self._masters = masters
        self.data = encode(command)
        """What goes there."""
        if number:
            self.data = encode([command[0], b"%d" % (number // _MASTERS), *command[2:]])

    def reply(self, reply: bytes) -> bytes:
        """Return what the client gets for what that master has replied."""
        if reply[0] == _MINUS:
            return reply
        try:
            value = parse_reply(reply)
            cursor = items_of(value)[0]
            number = int(cursor[cursor.index(b"\n") + 1 :] if isinstance(cursor, bytes) else b"")
            following = number * _MASTERS + self.master if number else (self.master + 1) % self._masters
            text = b"%d" % following
            items_of(value)[0] = b"$%d\r\n%b\r\n" % (len(text), text)
            return encode_value(value)
        except (ValueError, IndexError, NoTopologyError):
            return _NOT_UNDERSTOOD
