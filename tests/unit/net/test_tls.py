"""Contexts made of files: what is verified, and what is said of files that cannot be used."""

import ssl
from pathlib import Path

import pytest

from asynq_ttl.net.address import parse_upstream
from asynq_ttl.net.tls import ListenerTls, TlsError, listener_context, upstream_context
from support.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority."""
    return Authority(tmp_path / "authority")


def test_an_upstream_is_verified_unless_told_otherwise(authority: Authority) -> None:
    """Certificate and name, by TLS 1.2 or later; only `ssl_cert_reqs=none` turns it off."""
    assert upstream_context(parse_upstream("redis://h")) is None
    context = upstream_context(parse_upstream(f"rediss://h?ssl_ca_certs={authority.file}"))
    assert context is not None
    assert context.files == (authority.file,)
    assert context.current.verify_mode is ssl.CERT_REQUIRED
    assert context.current.check_hostname
    assert context.current.minimum_version is ssl.TLSVersion.TLSv1_2
    lax = upstream_context(parse_upstream("rediss://h?ssl_cert_reqs=none"))
    assert lax is not None
    assert lax.current.verify_mode is ssl.CERT_NONE


def test_a_listener_asks_for_certificates_only_with_an_authority(authority: Authority) -> None:
    """Without a client CA nobody has to show one."""
    certificate = authority.issue("localhost")
    outer, context = listener_context(ListenerTls(certificate))
    assert outer.verify_mode is ssl.CERT_NONE
    assert context.files == (certificate,)
    outer, context = listener_context(ListenerTls(certificate, certificate, authority.file))
    assert outer.verify_mode is context.current.verify_mode is ssl.CERT_REQUIRED


def test_a_broken_file_keeps_what_is_in_use(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """The context stays the very same, and the log names the file."""
    certificate = authority.issue("localhost")
    _, context = listener_context(ListenerTls(certificate))
    before = context.current
    assert context.reload()
    assert context.current is not before
    before = context.current
    certificate.write_text("")
    assert not context.reload()
    assert context.current is before
    assert str(certificate) in caplog.text


def test_a_key_of_another_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    """Both files are named."""
    certificate = authority.issue("localhost")
    other = authority.issue("localhost", file="other.pem")
    with pytest.raises(TlsError, match=r"server.pem and .*other.pem: no certificate and key that belong together"):
        listener_context(ListenerTls(certificate, other))
    with pytest.raises(TlsError, match=r"absent.pem: No such file"):
        upstream_context(parse_upstream(f"rediss://h?ssl_ca_certs={tmp_path}/absent.pem"))
