"""What real clusters say of their nodes, through the sidecar: no address of theirs is in it."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from asynq_ttl.wire.cluster.slots import slot_of
from asynq_ttl.wire.replies import ReplyCounter
from support.certificates import Authority
from support.cluster import Cluster, Kind, port_range, start_cluster
from support.servers import SidecarFactory

HOST = "side.car"
HOSTNAMES = ("--cluster-preferred-endpoint-type", "hostname", "--cluster-announce-hostname", "localhost")
NO_HOSTNAMES = HOSTNAMES[:2]
UNKNOWN = ("--cluster-preferred-endpoint-type", "unknown-endpoint")
KINDS = {
    "redis 6.2": Kind("redis"),
    "redis 7.0": Kind("path-redis", replicas=1),
    "valkey": Kind("valkey", replicas=1),
    "hostnames": Kind("path-redis", options=HOSTNAMES),
    "no hostnames": Kind("path-redis", options=NO_HOSTNAMES),
    "unknown endpoint": Kind("valkey", options=UNKNOWN),
    "IPv6": Kind("path-redis", host="::1"),
    "IPv6, unknown endpoint": Kind("path-redis", host="::1", options=UNKNOWN),
    "TLS": Kind("path-redis"),
}


class Talk:
    """A raw connection, on which whole replies are read."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)

    def ask(self, *words: str) -> bytes:
        """Return the reply to a command as it came."""
        parts = [b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in words]
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(parts))
        counter, reply = ReplyCounter(), b""
        while not counter.feed(data := self._socket.recv(65_536)):
            assert data
            reply += data
        return reply + data

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


@contextmanager
def _cluster(name: str, folder: Path) -> Iterator[tuple[Cluster, str]]:
    """Run a cluster; yield it with the URL of the sidecar's upstream."""
    kind = KINDS[name]
    if name == "TLS":
        authority = Authority(folder / "ca")
        authority.issue("127.0.0.1")
        kind = Kind(kind.server, authority=authority)
    with start_cluster(kind) as cluster:
        yield cluster, cluster.url_of(query=f"?ssl_ca_certs={kind.authority.file}" if kind.authority else "")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", KINDS)
def test_nothing_that_a_client_is_told_leads_past_the_sidecar(
    name: str, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """Endpoints of each type, with and without host names, IPv6 and TLS; RESP2 and RESP3; alone and in MULTI."""
    with _cluster(name, tmp_path) as (cluster, url), ExitStack() as talks:
        first, last = port_range(8)
        sidecar = start_sidecar(url, cluster_ports=f"{first}-{last}", announce=HOST)
        sidecar.expected_warnings.append("is down")  # the cluster ends before it
        names = {str(node.port) for node in cluster.nodes} | {str(node.plain_port) for node in cluster.nodes}
        told = set()
        for protocol in "23":
            talk = talks.enter_context(closing(Talk(first)))
            talk.ask("HELLO", protocol)
            master = cluster.nodes[0].id
            replies = [
                talk.ask("CLUSTER", *words)
                for words in (["SLOTS"], ["SHARDS"], ["NODES"], ["REPLICAS", master], ["SLAVES", master])
            ]
            assert not replies[0].startswith(b"-")
            assert not replies[2].startswith(b"-")
            replies += [talk.ask(*words) for words in (["MULTI"], ["CLUSTER", "SLOTS"], ["PING"], ["EXEC"])]
            # Of the slots of three masters two are somewhere else.
            moved = [reply for key in "abcdefghij" if (reply := talk.ask("GET", key)).startswith(b"-")]
            assert moved
            assert all(re.fullmatch(rb"-MOVED \d+ side\.car:\d+\r\n", reply) for reply in moved)
            for reply in [*replies, *moved]:
                text = reply.decode()
                assert "127.0.0.1" not in text
                assert "::1" not in text
                assert "localhost" not in text
                assert not names.intersection(re.findall(r"(?<=[:\n])\d+(?=[@\r ])", text)), text
                told |= {
                    int(port)
                    for port in re.findall(r"side\.car\r\n:(\d+)|side\.car:(\d+)", text)
                    for port in port
                    if port
                }
        assert told == set(range(first, first + len(cluster.nodes)))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("server", ["redis", "path-redis", "valkey"])
def test_slots_are_those_of_redis(server: str) -> None:
    """Keys of Asynq and odd ones."""
    with start_cluster(Kind(server, masters=1)) as cluster:
        for key in (
            "",
            "a",
            "asynq:queues",
            "asynq:{default}:t:1",
            "{}",
            "{}{a}",
            "{a",
            "a}{b}",
            "{{a}}",
            "ü{é}",
            "{a}{b}",
        ):
            assert slot_of(key.encode()) == cluster.ask(cluster.nodes[0], "CLUSTER", "KEYSLOT", key)
