"""Replies that name nodes: what clients are told instead, and nothing else."""

import pytest

from asynq_ttl.wire.cluster.naming import (
    NAMINGS,
    name_in_redirection,
    name_in_transaction,
)
from asynq_ttl.wire.cluster.topology import NoTopologyError
from asynq_ttl.wire.cluster.values import bulk

A, B = b"a" * 40, b"b" * 40
HOST = b"side.car"


class Known:
    """Ports that are told: 6401 for A, 6402 for B; what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.redirections: list[tuple[str, int, int]] = []

    def of_node(self, node_id: str, host: str, port: int) -> int:
        """Return a port."""
        self.asked.append((node_id, host, port))
        return {A.decode(): 6401, B.decode(): 6402}[node_id]

    def at_address(self, host: str, port: int, slot: int) -> int:
        """Return a port."""
        self.redirections.append((host, port, slot))
        return 6402


def named(kind: bytes, reply: bytes) -> tuple[bytes, list[tuple[str, str, int]]]:
    """Return a reply with other names in it, and which nodes were asked for."""
    ports = Known()
    return NAMINGS[kind](reply, HOST, ports), ports.asked


def node(host: bytes, port: int, node_id: bytes, more: bytes | None) -> bytes:
    """Return a node as CLUSTER SLOTS has it."""
    return b"*%d\r\n" % (3 if more is None else 4) + host + b":%d\r\n" % port + bulk(node_id) + (more or b"")


@pytest.mark.parametrize(
    "more",
    [
        None,
        b"*0\r\n",
        b"%0\r\n",
        b"*2\r\n" + bulk(b"hostname") + bulk(b"h.example"),
        b"%1\r\n" + bulk(b"ip") + bulk(b"10.0.0.1"),
    ],
)
@pytest.mark.parametrize(
    ("host", "told"), [(bulk(b"10.0.0.1"), "10.0.0.1"), (bulk(b"fe80::1"), "fe80::1"), (b"$-1\r\n", ""), (b"_\r\n", ""),
                       (bulk(b"?"), ""), (bulk(b""), "")]
)  # fmt: skip
def test_slots(host: bytes, told: str, more: bytes | None) -> None:
    """Each node has another host and port; what else names it is gone; ranges and IDs stay."""
    rest = None if more is None else more[:1] + b"0\r\n"
    shape = b"*2\r\n*4\r\n:0\r\n:5\r\n%b%b*3\r\n:6\r\n:16383\r\n%b"
    reply = shape % (node(host, 7000, A, more), node(host, 7001, B, more), node(host, 7000, A, more))
    one, two = node(bulk(HOST), 6401, A, rest), node(bulk(HOST), 6402, B, rest)
    assert named(b"SLOTS", reply) == (shape % (one, two, one), [(A.decode(), told, 7000), (B.decode(), told, 7001)])
    assert named(b"SLOTS", b"*0\r\n") == (b"*0\r\n", [])


@pytest.mark.parametrize("map_marker", [b"*14", b"%7"])
@pytest.mark.parametrize("port", [b"port", b"tls-port"])
def test_shards(map_marker: bytes, port: bytes) -> None:
    """Address, endpoint, host name and port are other ones; role, offset and health stay."""

    def shard(ip: bytes, endpoint: bytes, number: int, hostname: bytes) -> bytes:
        fields = [bulk(b"id"), bulk(A), bulk(port), b":%d\r\n" % number, bulk(b"ip"), ip, bulk(b"endpoint"), endpoint,
                  bulk(b"hostname"), hostname, bulk(b"role"), bulk(b"master"), bulk(b"health"), bulk(b"-")]  # fmt: skip
        return (
            b"*1\r\n*4\r\n" + bulk(b"slots") + b"*2\r\n:0\r\n:5\r\n" + bulk(b"nodes") + b"*1\r\n" + map_marker + b"\r\n"
        ) + b"".join(fields)

    told = shard(bulk(HOST), bulk(HOST), 6401, bulk(HOST))
    for endpoint, asked in (
        (bulk(b"h.example"), "h.example"), (bulk(b""), "10.0.0.1"), (bulk(b"?"), "10.0.0.1"), (b"_\r\n", "10.0.0.1"),
    ):  # fmt: skip
        reply = shard(bulk(b"10.0.0.1"), endpoint, 7000, bulk(b"h.example"))
        assert named(b"SHARDS", reply) == (told, [(A.decode(), asked, 7000)])


LINES = (
    "%s 10.0.0.1:7000@17000,h.example myself,master - 0 0 1 connected 0-5 [9->-%s]\n"
    "%s fe80::1:7001@17001 slave %s 0 0 1 connected\n"
)
NAMED = (
    "%s side.car:6401@17000,side.car myself,master - 0 0 1 connected 0-5 [9->-%s]\n"
    "%s side.car:6402@17001 slave %s 0 0 1 connected\n"
)


def test_nodes() -> None:
    """Each line has another address; in RESP3 the text has its format in front."""
    ids = A.decode(), B.decode(), B.decode(), A.decode()
    text, told = (lines.encode() % tuple(each.encode() for each in ids) for lines in (LINES, NAMED))
    asked = [(A.decode(), "10.0.0.1", 7000), (B.decode(), "fe80::1", 7001)]
    assert named(b"NODES", bulk(text)) == (bulk(told), asked)
    verbatim, named_verbatim = (b"=%d\r\ntxt:%b\r\n" % (len(each) + 4, each) for each in (text, told))
    assert named(b"NODES", verbatim) == (named_verbatim, asked)


@pytest.mark.parametrize(
    ("address", "flags", "told"),
    [
        (b":0@0", b"master,noaddr", b":0@0"),
        (b"10.0.0.9:7009@17009", b"handshake", b"side.car:0@17009"),
        (b"10.0.0.9:7009@17009,,shard-id=x", b"slave", b"side.car:6401@17009,,shard-id=x"),
        (b"10.0.0.9:7009@17009,h,shard-id=x", b"slave", b"side.car:6401@17009,side.car,shard-id=x"),
        (b":7009@17009", b"myself,master", b"side.car:6401@17009"),
    ],
)
def test_odd_nodes(address: bytes, flags: bytes, told: bytes) -> None:
    """A node without an address has none; one that nobody has met yet has no port."""
    for kind in (b"REPLICAS", b"SLAVES"):
        line = b"%b %b %b - 0 0 1 connected"
        reply, expected = (b"*1\r\n" + bulk(line % (A, each, flags)) for each in (address, told))
        assert named(kind, reply)[0] == expected


@pytest.mark.parametrize(
    ("line", "told", "asked"),
    [
        (b"-MOVED 12 10.0.0.1:7000\r\n", b"-MOVED 12 side.car:6402\r\n", ("10.0.0.1", 7000, 12)),
        (b"-ASK 16383 fe80::1:7000\r\n", b"-ASK 16383 side.car:6402\r\n", ("fe80::1", 7000, 16383)),
        (b"-MOVED 1 :7000\r\n", b"-MOVED 1 side.car:6402\r\n", ("", 7000, 1)),
        (b"-MOVED 1 ?:7000\r\n", b"-MOVED 1 side.car:6402\r\n", ("", 7000, 1)),
        (b"-ERR MOVED 1 10.0.0.1:7000\r\n", None, None),
        (b"-MOVED by a script\r\n", None, None),
    ],
)
def test_redirections(line: bytes, told: bytes | None, asked: tuple[str, int, int] | None) -> None:
    """MOVED and ASK lead to another port; any other error stays."""
    ports = Known()
    assert name_in_redirection(line, HOST, ports) == (told or line)
    assert ports.redirections == ([asked] if asked else [])


def test_a_transaction() -> None:
    """The replies that name nodes are named by their numbers; the others stay, and so does one that was given up."""
    text, told = (bulk(lines.encode() % (A, B, B, A)) for lines in (LINES, NAMED))
    asked = {1: NAMINGS[b"NODES"], 2: NAMINGS[b"NODES"], 7: NAMINGS[b"NODES"]}
    reply = b"*3\r\n" + text + text + b"-NOPERM\r\n"
    assert name_in_transaction(reply, HOST, Known(), asked) == b"*3\r\n" + text + told + b"-NOPERM\r\n"
    for reply in (b"*-1\r\n", b"_\r\n"):
        assert name_in_transaction(reply, HOST, Known(), asked) == reply
    with pytest.raises(NoTopologyError):
        name_in_transaction(b"+QUEUED\r\n", HOST, Known(), asked)


@pytest.mark.parametrize(
    ("kind", "reply"),
    [
        (b"SLOTS", b"+OK\r\n"),
        (b"SLOTS", b"*1\r\n*3\r\n:0\r\n:5\r\n*5\r\n" + bulk(b"h") + b":1\r\n" + bulk(A) + b"*0\r\n*0\r\n"),
        (b"SHARDS", b"*1\r\n:1\r\n"),
        (b"SHARDS", b"*1\r\n*2\r\n" + bulk(b"nodes") + b"*1\r\n*2\r\n" + bulk(b"id") + bulk(A)),
        (b"NODES", b":1\r\n"),
        (b"NODES", b"*0\r\n"),
        (b"NODES", bulk(b"a line")),
        (b"REPLICAS", bulk(b"a line")),
    ],
)
def test_what_is_not_understood_is_refused(kind: bytes, reply: bytes) -> None:
    """Nothing is guessed at."""
    with pytest.raises(NoTopologyError):
        named(kind, reply)
