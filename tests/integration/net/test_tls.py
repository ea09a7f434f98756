"""TLS on both sides, with real certificates: what is verified, what is refused, and certificates that are replaced."""

import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis as redis_py

from asynq_ttl.wire.commands import encode
from support.certificates import Authority
from support.commands import run
from support.paths import ROOT
from support.servers import Server, Sidecar, SidecarFactory, connect, free_port, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}}]"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority."""
    return Authority(tmp_path / "authority")


@contextmanager
def tls_terminator(upstream_port: int, certificate: Path, client_ca: Path | None = None) -> Iterator[int]:
    """Run a TLS terminator in front of a server; yield its port."""
    port = free_port()
    program = ROOT / "tests" / "support" / "tls_terminator.py"
    command = [sys.executable, str(program), str(port), str(upstream_port), str(certificate)]
    with subprocess.Popen([*command, *([str(client_ca)] if client_ca else [])], stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _accepts(port), "the TLS terminator does not start")
            yield port
        finally:
            process.kill()


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def shown(sidecar: Sidecar, context: ssl.SSLContext) -> bytes | None:
    """Return the certificate that the listener shows."""
    with (
        socket.create_connection(("127.0.0.1", sidecar.port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as wrapped,
    ):
        return wrapped.getpeercert(binary_form=True)


def tls_client(sidecar: Sidecar, authority: Authority, certificate: Path | None = None) -> "redis_py.Redis":
    """Return a client that goes to the sidecar by TLS."""
    own = str(certificate) if certificate else None
    ca = str(authority.file)
    return connect(host="localhost", port=sidecar.port, ssl=True, ssl_ca_certs=ca, ssl_certfile=own, ssl_keyfile=own)


# --- the listener ---------------------------------------------------------------------------------------------


def test_the_listener_speaks_tls(redis_server: Server, start_sidecar: SidecarFactory, authority: Authority) -> None:
    """Large values, pipelines and RESP3 pass; a client without TLS gets nothing."""
    sidecar = start_sidecar(redis_server.url, POLICY, tls_cert=str(authority.issue("localhost")))
    with tls_client(sidecar, authority) as client:
        assert client.set("k", b"x" * 3_000_000)
        assert client.get("k") == b"x" * 3_000_000
        with client.pipeline(transaction=False) as pipe:
            for number in range(200):
                pipe.echo(str(number))
            assert pipe.execute() == [str(number).encode() for number in range(200)]
    with sidecar.client() as plain, pytest.raises(redis_py.RedisError):
        plain.ping()


def test_what_a_client_sends_before_it_hangs_up_reaches_redis(
    redis_server: Server, start_sidecar: SidecarFactory, authority: Authority
) -> None:
    """As with Redis itself: a client that does not wait for the reply, as one that has turned replies off."""
    sidecar = start_sidecar(redis_server.url, POLICY, tls_cert=str(authority.issue("localhost")))
    context = authority.client_context()
    for _ in range(20):
        with (
            socket.create_connection(("127.0.0.1", sidecar.port)) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as wrapped,
        ):
            wrapped.sendall(encode([b"INCR", b"hasty"]))
    with redis_server.client() as client:
        wait_until(lambda: client.get("hasty") == b"20", "a command was lost")


def test_the_listener_asks_for_a_client_certificate(
    redis_server: Server, start_sidecar: SidecarFactory, authority: Authority, tmp_path: Path
) -> None:
    """Only a certificate of the given authority lets a client in."""
    sidecar = start_sidecar(
        redis_server.url, tls_cert=str(authority.issue("localhost")), tls_client_ca=str(authority.file)
    )
    mine = authority.issue("worker", file="worker.pem")
    with tls_client(sidecar, authority, mine) as client:
        assert client.ping()
    stranger = Authority(tmp_path / "stranger").issue("worker", file="worker.pem")
    for certificate in (None, stranger):
        with tls_client(sidecar, authority, certificate) as client, pytest.raises(redis_py.RedisError):
            client.ping()


@pytest.mark.parametrize("by_signal", [True, False])
def test_the_listeners_certificate_is_replaced_without_a_restart(
    redis_server: Server, start_sidecar: SidecarFactory, authority: Authority, by_signal: bool
) -> None:
    """New connections see the new certificate; one that is open goes on; a broken file changes nothing."""
    certificate = authority.issue("localhost")
    sidecar = start_sidecar(redis_server.url, POLICY, tls_cert=str(certificate))
    sidecar.expected_warnings += ("not reloaded, the old ones stay in use", "policy not reloaded")
    context = authority.client_context()
    first = shown(sidecar, context)
    with tls_client(sidecar, authority) as client:
        assert client.ping()
        authority.issue("localhost")
        _take_note(sidecar, by_signal)
        wait_until(lambda: shown(sidecar, context) != first, "the old certificate is still shown")
        second = shown(sidecar, context)
        assert client.ping()
    certificate.write_text("no certificate")
    _take_note(sidecar, by_signal)
    wait_until(lambda: "not reloaded" in sidecar.log(), "the broken file is not noticed")
    assert shown(sidecar, context) == second
    # One that cannot be used keeps no other file from being taken over.
    sidecar.reload(POLICY + "\nmode: shadow")
    assert "is in force, mode shadow" in sidecar.log()
    sidecar.reload("version: 2")
    authority.issue("localhost")
    _take_note(sidecar, by_signal)
    wait_until(lambda: shown(sidecar, context) != second, "the new certificate is not shown")


def test_a_replaced_client_authority_is_in_force(
    redis_server: Server, start_sidecar: SidecarFactory, authority: Authority, tmp_path: Path
) -> None:
    """Clients of the old authority are no longer let in once it is replaced."""
    trusted = tmp_path / "authority" / "clients.pem"
    trusted.write_bytes(authority.file.read_bytes())
    other = Authority(tmp_path / "other")
    sidecar = start_sidecar(redis_server.url, tls_cert=str(authority.issue("localhost")), tls_client_ca=str(trusted))
    old, new = authority.issue("worker", file="worker.pem"), other.issue("worker", file="worker.pem")
    with tls_client(sidecar, authority, old) as client:
        assert client.ping()
    trusted.write_bytes(other.file.read_bytes())
    _take_note(sidecar, by_signal=True)
    wait_until(lambda: "of the listener are in use" in sidecar.log(), "it is not reloaded")
    with tls_client(sidecar, authority, new) as client:
        assert client.ping()
    with tls_client(sidecar, authority, old) as client, pytest.raises(redis_py.RedisError):
        client.ping()


def _take_note(sidecar: Sidecar, by_signal: bool) -> None:
    if by_signal:
        assert sidecar.process is not None
        sidecar.process.send_signal(1)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"tls_cert": "{folder}/none.pem"}, "none.pem: No such file"),
        ({"tls_cert": "{folder}/ca.pem"}, "no certificate and key that belong together"),
        ({"tls_key": "{folder}/server.pem"}, "need --tls-cert"),
        ({"tls_cert": "{folder}/server.pem", "tls_client_ca": "{folder}/key.pem"}, "no certificate authorities"),
    ],
)
def test_wrong_files_stop_the_start(authority: Authority, options: dict[str, str], complaint: str) -> None:
    """The file and the reason are said, with the status of a wrong command line."""
    authority.issue("localhost")
    (authority.folder / "key.pem").write_text("nothing")
    line = ["--listen", f"127.0.0.1:{free_port()}"]
    for name, value in options.items():
        line += [f"--{name.replace('_', '-')}", value.format(folder=authority.folder)]
    done = run("serve", *line)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


# --- Redis ----------------------------------------------------------------------------------------------------


def test_the_upstream_is_verified(redis_server: Server, start_sidecar: SidecarFactory, authority: Authority) -> None:
    """A certificate of an authority that is not trusted, or for another name, is refused; by name it can be told."""
    with tls_terminator(redis_server.port, authority.issue("redis.internal")) as port:
        ca = f"ssl_ca_certs={authority.file}"
        sidecar = start_sidecar(
            f"rediss://127.0.0.1:{port}/0?{ca}&ssl_server_name=redis.internal", POLICY, sweep_interval="0"
        )
        sidecar.expected_warnings.append("is down")  # the terminator ends before the sidecar does
        with sidecar.client(protocol=3) as client:
            assert client.set("k", b"x" * 1_000_000)
            assert client.get("k") == b"x" * 1_000_000
        wait_until(lambda: "is up" in sidecar.log(), "its own connection does not come up")
        for query, reason in ((f"?{ca}", "IP address mismatch"), ("", "unable to get local issuer|self.signed")):
            refused = start_sidecar(f"rediss://127.0.0.1:{port}/0{query}", sweep_interval="0")
            refused.expected_warnings.append("is down")
            with (
                refused.client() as client,
                pytest.raises(redis_py.RedisError, match=f"unavailable: TLS: .*({reason})"),
            ):
                client.ping()
        lax = start_sidecar(f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs=none", sweep_interval="0")
        lax.expected_warnings.append("is down")
        with lax.client() as client:
            assert client.ping()


def test_the_upstream_is_shown_a_certificate_which_is_replaced(
    redis_server: Server, start_sidecar: SidecarFactory, authority: Authority, tmp_path: Path
) -> None:
    """Redis asks for a client certificate; one of the wrong authority is refused until the file is replaced."""
    with tls_terminator(redis_server.port, authority.issue("localhost"), authority.file) as port:
        mine = tmp_path / "mine.pem"
        mine.write_bytes(Authority(tmp_path / "stranger").issue("sidecar").read_bytes())
        url = f"rediss://localhost:{port}/0?ssl_ca_certs={authority.file}&ssl_certfile={mine}"
        sidecar = start_sidecar(url, POLICY, sweep_interval="0")
        sidecar.expected_warnings.append("is down")
        with sidecar.client() as client, pytest.raises(redis_py.RedisError):
            client.ping()
        mine.write_bytes(authority.issue("sidecar", file="sidecar.pem").read_bytes())
        wait_until(lambda: "of the upstream are in use" in sidecar.log(), "it is not reloaded")
        with sidecar.client() as client:
            assert client.ping()
        wait_until(lambda: "is up" in sidecar.log(), "its own connection does not come up")
