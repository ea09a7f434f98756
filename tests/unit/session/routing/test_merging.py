"""One reply of those of all masters."""

import pytest

from asynq_ttl.session.routing.merging import Scan, merge
from asynq_ttl.wire.commands import encode

ERROR = b"-ERR no\r\n"
CANNOT = b"-ERR asynq-ttl: the replies of the cluster's masters cannot be put together\r\n"


@pytest.mark.parametrize(
    ("name", "replies", "merged"),
    [
        (b"FLUSHALL", [b"+OK\r\n", b"+OK\r\n"], b"+OK\r\n"),
        (b"FLUSHALL", [b"+OK\r\n", ERROR], ERROR),
        (b"SCRIPT|LOAD", [b"$1\r\na\r\n", b"$1\r\na\r\n"], b"$1\r\na\r\n"),
        (b"SCRIPT|EXISTS", [b"*2\r\n:1\r\n:1\r\n", b"*2\r\n:1\r\n:0\r\n"], b"*2\r\n:1\r\n:0\r\n"),
        (b"SCRIPT|EXISTS", [b"*1\r\n:1\r\n", b"*2\r\n:1\r\n:0\r\n"], CANNOT),
        (b"SCRIPT|EXISTS", [b"*1\r\n*0\r\n"], CANNOT),
        (b"SCRIPT|KILL", [ERROR, b"+OK\r\n"], b"+OK\r\n"),
        (b"FUNCTION|KILL", [ERROR, b"-ERR else\r\n"], ERROR),
        (b"DBSIZE", [b":3\r\n", b":4\r\n"], b":7\r\n"),
        (b"DBSIZE", [b":3\r\n", b"$1\r\nx\r\n"], CANNOT),
        (b"WAIT", [b":3\r\n", b":1\r\n"], b":1\r\n"),
        (b"WAITAOF", [b"*2\r\n:1\r\n:3\r\n", b"*2\r\n:0\r\n:4\r\n"], b"*2\r\n:0\r\n:3\r\n"),
        (b"KEYS", [b"*1\r\n$1\r\na\r\n", b"*0\r\n", b"*1\r\n$1\r\nb\r\n"], b"*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        (b"KEYS", [b"*1\r\n$1\r\na\r\n", ERROR], ERROR),
    ],
)
def test_replies_become_one(name: bytes, replies: list[bytes], merged: bytes) -> None:
    """As one Redis would have replied; an error where one has."""
    assert merge(name, replies) == merged


def page(cursor: int, *keys: bytes) -> bytes:
    """Return the reply to a SCAN."""
    return b"*2\r\n$%d\r\n%d\r\n" % (len(str(cursor)), cursor) + encode(list(keys))


def test_a_scan_goes_through_all_masters() -> None:
    """Each as far as it goes, then the next; the cursor says it all."""
    begin = Scan([b"SCAN", b"0", b"COUNT", b"9"], 3)
    assert (begin.master, begin.data) == (0, encode([b"SCAN", b"0", b"COUNT", b"9"]))
    assert begin.reply(page(5, b"a")) == page(5 * 1024, b"a")
    more = Scan([b"SCAN", b"5120"], 3)
    assert (more.master, more.data) == (0, encode([b"SCAN", b"5"]))
    assert more.reply(page(0)) == page(1)
    following = Scan([b"SCAN", b"1"], 3)
    assert (following.master, following.data) == (1, encode([b"SCAN", b"0"]))
    assert following.reply(page(7)) == page(7 * 1024 + 1)
    last = Scan([b"SCAN", b"%d" % (2**54 + 2)], 3)
    assert (last.master, last.data) == (2, encode([b"SCAN", b"%d" % 2**44]))
    assert last.reply(page(0, b"z")) == page(0, b"z")


@pytest.mark.parametrize("cursor", [[b"x"], [], [b"1" * 21]])
def test_what_is_no_cursor_is_the_first_master_s_to_refuse(cursor: list[bytes]) -> None:
    """As it came."""
    scan = Scan([b"SCAN", *cursor], 3)
    assert (scan.master, scan.data, scan.fault) == (0, encode([b"SCAN", *cursor]), b"")
    assert scan.reply(ERROR) == ERROR


def test_a_cursor_of_a_master_that_is_gone() -> None:
    """Is an error, and so is a reply that is none."""
    assert Scan([b"SCAN", b"3"], 3).fault.startswith(b"-ERR asynq-ttl: there is no master with the number")
    for reply in (b"*2\r\n*0\r\n*0\r\n", b"*0\r\n", b"+OK\r\n", b"*1\r\n$1\r\nx\r\n"):
        assert Scan([b"SCAN", b"0"], 3).reply(reply) == CANNOT
