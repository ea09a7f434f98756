"""What a client is told of nodes: the right replies, renamed, wherever they are cut, and nothing else."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.session import renaming as module
from asynq_ttl.session.renaming import Directory, Renaming
from asynq_ttl.wire.cluster.values import bulk

A = b"a" * 40
HOST = b"side.car"


class Known:
    """Ports: each node's is a hundred above its own; how often it was asked, and what went wrong."""

    def __init__(self) -> None:
        self.asked = 0
        self.generation = 0
        self.faults: list[str] = []
        self.directory = Directory(self, lambda: self.generation, self.faults.append)

    def of_node(self, node_id: str, host: str, port: int) -> int:
        """Return a port."""
        self.asked += 1
        return port + 100

    def at_address(self, host: str, port: int, slot: int) -> int:
        """Return a port."""
        return port + 100


def slots(host: bytes, port: int) -> bytes:
    """Return a reply to CLUSTER SLOTS."""
    return b"*1\r\n*3\r\n:0\r\n:5\r\n*3\r\n" + bulk(host) + b":%d\r\n" % port + bulk(A)


def nodes(host: bytes, port: int) -> bytes:
    """Return a reply to CLUSTER NODES."""
    return bulk(A + b" %b:%d@17000 master - 0 0 1 connected 0-5\n" % (host, port))


OLD, NEW = slots(b"10.0.0.1", 7000), slots(HOST, 7100)
MOVED, MOVED_ON = b"-MOVED 5 10.0.0.1:7000\r\n", b"-MOVED 5 side.car:7100\r\n"
# What nobody may touch: it only looks like a redirection.
DECOY = bulk(b"-MOVED 5 10.0.0.1:7000\r\n")
OTHERS = [b"+OK\r\n", b":1\r\n", bulk(b"x" * 50), DECOY, b"*2\r\n" + DECOY + b"-MOVED 5 10.0.0.1:7000\r\n", b"*0\r\n",
          b"-ERR no\r\n", b"$-1\r\n", b"%1\r\n+a\r\n" + OLD, b">2\r\n+a\r\n" + DECOY]  # fmt: skip


def one() -> tuple[Known, Renaming]:
    """Return a connection, and the ports that it is told."""
    known = Known()
    return known, Renaming(known.directory, HOST)


def cut(data: bytes, *places: int) -> list[bytes]:
    """Cut bytes at some places."""
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[first:last] for first, last in pairwise(ends)]


@pytest.mark.parametrize("place", range(len(OLD + MOVED) + 1))
def test_replies_are_renamed_wherever_they_are_cut(place: int) -> None:
    """At every byte; and what comes before and after stays."""
    _, renaming = one()
    renaming.ask(b"SLOTS", 2, queued=False)
    data = b"+OK\r\n" + OLD + MOVED + OLD
    assert b"".join(map(renaming.receive, cut(data, place + 5))) == b"+OK\r\n" + NEW + MOVED_ON + OLD


@given(
    st.lists(st.one_of(st.sampled_from(OTHERS), st.sampled_from([OLD, MOVED, nodes(b"10.0.0.1", 7000)])), max_size=12),
    st.lists(st.integers(min_value=0, max_value=2000), max_size=8),
)
def test_any_cut_gives_the_same(replies: list[bytes], places: list[int]) -> None:
    """The questions are those for which the topologies are; replies of the same form to other questions stay."""
    _, renaming = one()
    expected, number = [], 0
    for at, reply in enumerate(replies):
        number += not reply.startswith(b">")
        told = MOVED_ON if reply == MOVED else reply
        if at % 2 and reply in (OLD, nodes(b"10.0.0.1", 7000)):
            renaming.ask(b"SLOTS" if reply == OLD else b"NODES", number, queued=False)
            told = NEW if reply == OLD else nodes(HOST, 7100)
        expected.append(told)
    assert b"".join(map(renaming.receive, cut(b"".join(replies), *places))) == b"".join(expected)


def test_a_chunk_of_no_interest_is_the_very_same_object() -> None:
    """Nothing is copied on the way of nearly every reply."""
    _, renaming = one()
    for chunk in (b"+OK\r\n", b":1\r\n:2\r\n", bulk(b"x"), b"*1\r\n:1\r\n"):
        assert renaming.receive(chunk) is chunk


def test_an_error_instead_of_a_topology_goes_on() -> None:
    """And the next reply is not taken for it."""
    known, renaming = one()
    renaming.ask(b"SLOTS", 1, queued=False)
    assert renaming.receive(b"-NOPERM no\r\n" + OLD) == b"-NOPERM no\r\n" + OLD
    assert known.faults == []


def test_other_subcommands_are_not_waited_for() -> None:
    """CLUSTER INFO names no node."""
    _, renaming = one()
    renaming.ask(b"INFO", 1, queued=False)
    assert renaming.receive(OLD) is OLD


@pytest.mark.parametrize("reply", [b"+PONG\r\n", b"*1\r\n:1\r\n"])
def test_a_topology_that_is_not_understood_is_an_error(reply: bytes) -> None:
    """One that cluster clients know: they ask again, and go nowhere else meanwhile."""
    known, renaming = one()
    renaming.ask(b"SHARDS", 1, queued=False)
    assert renaming.receive(reply + b"+OK\r\n").startswith(b"-CLUSTERDOWN asynq-ttl cannot tell where the nodes are: ")
    assert len(known.faults) == 1


def test_a_topology_that_is_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not held; what follows is served."""
    monkeypatch.setattr(module, "MAX_HELD_BYTES", 40)
    known, renaming = one()
    renaming.ask(b"SLOTS", 1, queued=False)
    told = b"".join(map(renaming.receive, [*cut(OLD, 10, 50, 60), b"+OK\r\n"]))
    assert told.startswith(b"-CLUSTERDOWN ")
    assert told.endswith(b"too long\r\n+OK\r\n")
    assert known.faults == ["the reply is too long"]


def test_a_long_error_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a redirection has to be seen whole, and none is so long."""
    monkeypatch.setattr(module, "MAX_HELD_BYTES", 40)
    _, renaming = one()
    error = b"-ERR " + b"x" * 100 + b"\r\n"
    assert b"".join(map(renaming.receive, [*cut(error, 20, 60, 80), MOVED])) == error + MOVED_ON


def test_a_transaction_is_renamed_at_its_end() -> None:
    """Its EXEC has the replies."""
    _, renaming = one()
    renaming.begin_transaction(1)
    renaming.ask(b"SLOTS", 3, queued=True)
    renaming.end_transaction(4, executed=True)
    replies = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n"
    assert renaming.receive(replies + OLD + OLD) == replies + OLD + NEW
    renaming.begin_transaction(5)
    renaming.ask(b"SLOTS", 6, queued=True)
    renaming.end_transaction(7, executed=False)
    assert renaming.receive(OLD) is OLD


@pytest.mark.parametrize("number", [0, 1])
def test_where_replies_have_no_numbers_the_form_decides(number: int) -> None:
    """After SUBSCRIBE more or fewer replies come than commands went."""
    _, renaming = one()
    assert renaming.receive(b"+OK\r\n:1\r\n") == b"+OK\r\n:1\r\n"
    renaming.ask(b"SLOTS", number, queued=False)
    before = b">3\r\n+subscribe\r\n+a\r\n:1\r\n-ERR no\r\n" + bulk(b"x")
    assert renaming.receive(before + OLD) == before + NEW
    assert renaming.receive(OLD) is OLD


def test_where_replies_have_no_numbers_a_long_one_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may answer anything."""
    monkeypatch.setattr(module, "MAX_HELD_BYTES", 40)
    _, renaming = one()
    renaming.ask(b"SLOTS", 0, queued=False)
    long = bulk(b"x" * 200)
    assert b"".join(map(renaming.receive, [*cut(long, 30, 60, 80), b":1\r\n"])) == long + b":1\r\n"


def test_garbage_goes_on() -> None:
    """What is no reply is nobody's to understand; nothing of it is held."""
    for data in (b"garbage\r\n", b"*1\r\ngarbage\r\n"):
        _, renaming = one()
        renaming.ask(b"SLOTS", 1, queued=False)
        assert renaming.receive(data) + renaming.receive(MOVED) == data + MOVED


def test_what_is_due_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that asks and never reads costs no more memory."""
    monkeypatch.setattr(module, "MAX_DUE", 2)
    _, renaming = one()
    assert renaming.ask(b"SLOTS", 1, queued=False)
    assert renaming.ask(b"SLOTS", 2, queued=True)
    assert not renaming.ask(b"SLOTS", 3, queued=False)
    assert renaming.receive(OLD) == NEW
    assert renaming.ask(b"SLOTS", 4, queued=False)


def test_the_same_slots_are_not_read_again() -> None:
    """Until a node may have got another port, or another host is told."""
    known, renaming = one()

    def asked() -> int:
        for each in (renaming, Renaming(known.directory, HOST)):
            each.ask(b"SLOTS", 0, queued=False)
            assert each.receive(OLD) == NEW
        return known.asked

    assert asked() == asked() == 1
    known.generation += 1
    assert asked() == 2
    other = Renaming(known.directory, b"other")
    other.ask(b"SLOTS", 1, queued=False)
    assert other.receive(OLD) == slots(b"other", 7100)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes, and one that is too long is not remembered."""
    known, _ = one()

    def times(reply: bytes) -> int:
        before = known.asked
        renaming = Renaming(known.directory, HOST)
        renaming.ask(b"SLOTS", 1, queued=False)
        renaming.receive(reply)
        return known.asked - before

    for port in range(9):
        assert times(slots(b"h", port)) == 1
    assert times(slots(b"h", 8)) == 0
    assert times(slots(b"h", 0)) == 1
    monkeypatch.setattr(module, "_MAX_REMEMBERED_BYTES", 10)
    long: Callable[[], int] = lambda: times(slots(b"h", 99))  # noqa: E731
    assert long() == long() == 1
