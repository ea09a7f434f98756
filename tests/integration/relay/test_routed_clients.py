"""A cluster behind one port, and clients that vanish, cache, or make up what nodes say."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis as redis_py

from asynq_ttl.wire.cluster.slots import slot_of
from support.cluster import Cluster, Kind, serve_cluster, start_cluster
from support.servers import SidecarFactory, connect, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 2h}}]"
FORGED = "return redis.error_reply(ARGV[1])"
KEYS = tuple(f"key{number}" for number in range(12))


@pytest.fixture(scope="module", params=["path-redis", "valkey"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three masters whose password only the sidecar knows."""
    with start_cluster(Kind(request.param, password="sesame")) as cluster:
        yield cluster


class Stranger:
    """Somebody who listens, and remembers whoever has connected."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.came = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.came += 1
            connection.close()

    def close(self) -> None:
        """Listen no more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["MOVED", "ASK"])
@pytest.mark.parametrize("own_port", [False, True])
def test_a_client_cannot_send_the_sidecar_to_a_stranger(
    own_port: bool,
    kind: str,
    cluster: Cluster,
    start_sidecar: SidecarFactory,
) -> None:
    """A script can reply with whatever it likes: a node is only what the cluster says is one.

    Where the sidecar connects to, it sends the cluster's password.
    """
    sidecar = serve_cluster(start_sidecar, cluster, POLICY)
    with closing(Stranger()) as stranger:
        port = sidecar.port
        if own_port:
            _, port = connect(port=port).execute_command("CLUSTER SLOTS")[0][2][:2]
        said = f"{kind} {slot_of(b'k')} 127.0.0.1:{stranger.port}"
        with connect(port=port, socket_timeout=60) as client, pytest.raises(redis_py.ResponseError):
            client.execute_command("EVAL", FORGED, 1, "k", said)
        assert stranger.came == 0
        assert f":{stranger.port}" not in sidecar.log()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("more", [[], ["GET other1"], ["GET other1", "SET other2 x", "GET other3"]])
def test_a_client_that_is_gone_takes_nothing(
    half: bool,
    more: list[str],
    cluster: Cluster,
    start_sidecar: SidecarFactory,
) -> None:
    """What it waited for stays for others, as with Redis, which hangs up on whoever sends nothing more."""
    sidecar = start_sidecar(cluster.url, POLICY, client_auth="none")
    with connect(port=sidecar.port) as other:
        other.delete("list")
        waiting = socket.create_connection(("127.0.0.1", sidecar.port))
        waiting.sendall(b"".join(_encoded(words) for words in ["BLPOP list 0", *more]))
        with cluster.client(cluster.owner("list")) as client:
            wait_until(lambda: _blocked(client) == 1, "it does not wait")
            waiting.shutdown(socket.SHUT_WR)
            if not half:
                waiting.close()
            wait_until(lambda: _blocked(client) == 0, "it still waits")
        other.rpush("list", "x")
        assert other.llen("list") == 1
        waiting.close()


def _blocked(client: Any) -> int:
    return int(client.info("clients")["blocked_clients"])


def _encoded(words: str) -> bytes:
    parts = words.encode().split()
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("transaction", [False, True])
def test_what_is_cached_by_choice_is_told_of(
    transaction: bool,
    cluster: Cluster,
    start_sidecar: SidecarFactory,
) -> None:
    """`CLIENT CACHING` is about the next command, at whichever node: every change of what was chosen is told."""
    sidecar = start_sidecar(cluster.url, POLICY, client_auth="none")
    with (
        connect(port=sidecar.port) as other,
        closing(socket.create_connection(("127.0.0.1", sidecar.port), 30)) as caching,
    ):
        file = caching.makefile("rwb")
        for words in ("HELLO 3", "CLIENT TRACKING ON OPTIN"):
            file.write(_encoded(words))
        for key in KEYS:
            chosen = ["CLIENT CACHING YES", *(["MULTI", f"GET {key}", "EXEC"] if transaction else [f"GET {key}"])]
            file.writelines(map(_encoded, [*chosen, f"GET not-{key}", f"ECHO {key}-done"]))
            file.flush()
            while f"{key}-done".encode() not in file.readline():
                pass
        for key in KEYS:
            other.set(f"not-{key}", "new")
            other.set(key, "new")
        told = [_invalidated(file) for _ in KEYS]
        assert sorted(told) == sorted(key.encode() for key in KEYS)


def _invalidated(file: Any) -> bytes:
    while file.readline() != b"invalidate\r\n":
        pass
    assert file.readline() == b"*1\r\n"
    file.readline()
    key: bytes = file.readline().strip()
    return key


def test_what_cannot_be_tracked_is_refused(cluster: Cluster, start_sidecar: SidecarFactory) -> None:
    """Another connection, which is at one node, does not hear of changes at others: so nobody believes that it does."""
    sidecar = start_sidecar(cluster.url, POLICY, client_auth="none")
    with connect(port=sidecar.port) as client:
        with pytest.raises(redis_py.ResponseError, match="REDIRECT"):
            client.execute_command("CLIENT", "TRACKING", "ON", "REDIRECT", client.client_id())
        assert client.execute_command("CLIENT", "TRACKING", "OFF")


def test_words_that_are_answered_here_are_refused_as_redis_does(
    cluster: Cluster, start_sidecar: SidecarFactory
) -> None:
    """With too many words they mean nothing, and the conversation goes on."""
    sidecar = start_sidecar(cluster.url, POLICY, client_auth="none")
    with connect(port=sidecar.port) as client:
        for words in (("MULTI", "x"), ("ASKING", "x")):
            with pytest.raises(redis_py.ResponseError, match="wrong number of arguments"):
                client.execute_command(*words)
            assert client.set("key", 1)
        with pytest.raises(redis_py.ResponseError, match="OPTIN"):
            client.execute_command("CLIENT", "CACHING", "YES")
