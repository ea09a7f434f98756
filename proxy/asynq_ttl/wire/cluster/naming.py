"""Replies that name the nodes of a cluster, with other names in them.

A client is to see every node at one host, at a port of its own. Whoever knows the ports says which (`Ports`); here they
are put into the replies, whole ones, RESP2 and RESP3.

Invariants:

* In a reply that is returned no node is named by any other address than the one that was given for it.
* What else a reply says stays as it was, byte for byte.
* A reply that is not understood is refused, not guessed at.

Source of the formats: the Redis documentation of `CLUSTER SLOTS`, `SHARDS`, `NODES` and `REPLICAS`, and the cluster
specification, "Redirection and resharding". What servers really say is in `tests/integration/wire/test_cluster.py`.
"""

import re
from collections.abc import Callable
from typing import Protocol

from asynq_ttl.wire.cluster.topology import NoTopologyError, split_address
from asynq_ttl.wire.cluster.values import Value, bulk, encode_value, fields_of, items_of, parse_reply, text_of

_BULK, _VERBATIM = ord("$"), ord("=")


class Ports(Protocol):
    """Knows at which port clients find each node."""

    def of_node(self, node_id: str, host: str, port: int) -> int:
        """Return the port for a node, by its ID and where the cluster says it is."""

    def at_address(self, host: str, port: int, slot: int) -> int:
        """Return the port for whatever node is at an address; the host is empty where that is not said.

        Args:
            host: its host; empty for that of the node that was asked.
            port: its port.
            slot: a slot that it serves, or is about to.
        """


Naming = Callable[[bytes, bytes, Ports], bytes]
"""Takes a whole reply, the host that clients are told, and who knows the ports; raises NoTopologyError."""

# A node in CLUSTER SLOTS: host, port, ID, and from Redis 7.0 on more names, in pairs.
_SLOTS_NODE = re.compile(
    rb"\*(?:3|(4))\r\n(?:\$-1|_|\$\d+\r\n([^\r\n]*))\r\n:(\d+)\r\n\$40\r\n([0-9a-f]{40})\r\n"
    rb"(?(1)([*%])\d+\r\n(?:\$\d+\r\n[^\r\n]*\r\n)*)"
)
_ID = b"\r\n$40\r\n"
_REDIRECTION = re.compile(rb"-(MOVED|ASK) (\d{1,5}) (.*):(\d{1,5})\r\n")


def name_in_slots(reply: bytes, host: bytes, ports: Ports) -> bytes:
    """Return a reply to `CLUSTER SLOTS` with other names in it."""
    known: dict[bytes, bytes] = {}
    count = 0

    def name(found: re.Match[bytes]) -> bytes:
        nonlocal count
        count += 1
        old = found[0]
        new = known.get(old)
        if new is None:
            new = known[old] = _slots_node(found, host, ports)
        return new

    named = _SLOTS_NODE.sub(name, reply)
    if not reply.startswith(b"*") or count != reply.count(_ID):
        raise NoTopologyError("CLUSTER SLOTS is not understood")
    return named


def _slots_node(found: re.Match[bytes], host: bytes, ports: Ports) -> bytes:
    _, old_host, old_port, node_id, more = found.groups()
    old = b"" if old_host in (None, b"?") else old_host
    port = ports.of_node(node_id.decode(), old.decode("latin-1"), int(old_port))
    parts = b"*4\r\n" if more else b"*3\r\n", bulk(host), b":%d\r\n" % port, bulk(node_id), more and more + b"0\r\n"
    return b"".join(part for part in parts if part)


def name_in_shards(reply: bytes, host: bytes, ports: Ports) -> bytes:
    """Return a reply to `CLUSTER SHARDS` with other names in it."""
    shards = parse_reply(reply)
    for shard in items_of(shards):
        for node in items_of(fields_of(shard).get("nodes")):
            _name_shards_node(node, host, ports)
    return encode_value(shards)


def _name_shards_node(node: Value, host: bytes, ports: Ports) -> None:
    found = fields_of(node)
    endpoint, address = text_of(found.get("endpoint")), text_of(found.get("ip"))
    number = found.get("port") or found.get("tls-port")
    if not isinstance(number, bytes) or not number.startswith(b":"):
        raise NoTopologyError("CLUSTER SHARDS has a node without a port")
    old = endpoint if endpoint not in ("", "?") else address
    port = b":%d\r\n" % ports.of_node(text_of(found.get("id")), old, int(number[1:-2]))
    new: dict[str, Value] = {"port": port, "tls-port": port}
    new |= dict.fromkeys(("ip", "endpoint", "hostname"), bulk(host))
    items = items_of(node)
    for at, (name, value) in enumerate(found.items()):
        items[2 * at + 1] = new.get(name, value)


def name_in_nodes(reply: bytes, host: bytes, ports: Ports) -> bytes:
    """Return a reply to `CLUSTER NODES` with other names in it."""
    return _name_in_text(parse_reply(reply), host, ports)


def name_in_replicas(reply: bytes, host: bytes, ports: Ports) -> bytes:
    """Return a reply to `CLUSTER REPLICAS` or `SLAVES` with other names in it."""
    lines = parse_reply(reply)
    items = items_of(lines)
    items[:] = [_name_in_text(line, host, ports) for line in items]
    return encode_value(lines)


def _name_in_text(value: Value, host: bytes, ports: Ports) -> bytes:
    """Name the nodes in lines as `CLUSTER NODES` has them, in a bulk string or (RESP3) a verbatim string."""
    if not isinstance(value, bytes) or value[0] not in (_BULK, _VERBATIM):
        raise NoTopologyError("it is no text")
    start = value.index(b"\n") + 1
    start += 4 if value[0] == _VERBATIM else 0  # the format of the text and a colon
    text = value[start:-2].decode("latin-1")
    lines = [_name_in_line(line, host.decode("latin-1"), ports) for line in text.split("\n")]
    named = value[value.index(b"\n") + 1 : start] + "\n".join(lines).encode("latin-1")
    return b"%c%d\r\n%b\r\n" % (value[0], len(named), named)


def _name_in_line(line: str, host: str, ports: Ports) -> str:
    if not line:
        return line
    node_id, _, rest = line.partition(" ")
    address, _, rest = rest.partition(" ")
    flags = rest.partition(" ")[0].split(",")
    try:
        old_host, old_port, hostname, bus = split_address(address)
    except ValueError:
        raise NoTopologyError("a line of CLUSTER NODES is not understood") from None
    port = 0
    if old_port and "handshake" not in flags:  # the ID of a node that nobody has met yet is made up
        port = ports.of_node(node_id, old_host, old_port)
    more = address.partition(",")[2].removeprefix(hostname)
    named = f"{host if old_port else ''}:{port}{bus}" + (f",{host if hostname else ''}{more}" if "," in address else "")
    return f"{node_id} {named} {rest}"


def name_in_redirection(line: bytes, host: bytes, ports: Ports) -> bytes:
    """Return an error reply with another name in it, if it sends the client to another node; else as it is."""
    found = redirection_of(line)
    if found is None:
        return line
    kind, slot, old_host, old_port = found
    port = ports.at_address(old_host, old_port, slot)
    return b"-%b %d %b:%d\r\n" % (kind, slot, host, port)


def redirection_of(line: bytes) -> tuple[bytes, int, str, int] | None:
    """Return what an error says that sends a client to another node: `MOVED` or `ASK`, slot, host, port.

    The host is empty for that of the node that says it. None where it is another error.
    """
    found = _REDIRECTION.fullmatch(line)
    if found is None:
        return None
    kind, slot, host, port = found.groups()
    return kind, int(slot), "" if host == b"?" else host.decode("latin-1"), int(port)


def name_in_transaction(reply: bytes, host: bytes, ports: Ports, asked: dict[int, Naming]) -> bytes:
    """Return a reply to EXEC with other names in it.

    Args:
        reply: the reply.
        host: the host that clients are told.
        ports: who knows the ports.
        asked: how to name nodes in the replies that it has, by their numbers, from 0.
    """
    if reply in (b"*-1\r\n", b"_\r\n"):
        return reply  # the transaction was given up
    value = parse_reply(reply)
    items = items_of(value)
    for number, item in enumerate(items):
        if number in asked and not (isinstance(item, bytes) and item.startswith(b"-")):
            items[number] = asked[number](encode_value(item), host, ports)
    return encode_value(value)


NAMINGS: dict[bytes, Naming] = {
    b"SLOTS": name_in_slots,
    b"SHARDS": name_in_shards,
    b"NODES": name_in_nodes,
    b"REPLICAS": name_in_replicas,
    b"SLAVES": name_in_replicas,
}
"""How nodes are named in the replies to each command of CLUSTER that names some."""
