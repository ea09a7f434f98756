"""TLS on both sides: contexts made of files, and made anew when the files change. The only module that makes contexts.

Invariants:

* Nothing is verified less than it was asked for: a file that cannot be read is an error at the start, and later the
  context that is in use stays, whole.
* A connection has the context that was valid when it began.
"""

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from asynq_ttl.net.address import Upstream
from asynq_ttl.net.bounded_file import read_bounded, require_regular

_log = logging.getLogger("asynq_ttl.tls")

# A client that has not said hello by then is hung up on.
HANDSHAKE_SECONDS = 10.0


class TlsError(ValueError):
    """A certificate, key or CA file that cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class ListenerTls:
    """The listener's TLS.

    Attributes:
        certificate: its certificate, with the chain up to the CA.
        key: the private key; None if it is in the same file.
        client_ca: whoever connects must show a certificate of this authority; None if nobody must.
    """

    certificate: Path
    key: Path | None = None
    client_ca: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it is made of."""
        return tuple(path for path in (self.certificate, self.key, self.client_ca) if path is not None)


class Context:
    """A context that can be made anew from its files.

    Args:
        build: makes it; raises TlsError.
        name: whose it is, for the log.
        files: what it is made of.

    Raises:
        TlsError: a file cannot be used.
    """

    def __init__(self, build: Callable[[], ssl.SSLContext], name: str, files: tuple[Path, ...]) -> None:
        self.current = build()
        """The context for connections that begin now."""
        self.files = files
        self._build = build
        self._name = name

    def reload(self) -> bool:
        """Read the files again; on any fault keep what is in use and say why. Returns success."""
        try:
            self.current = self._build()
        except TlsError as error:
            _log.error("certificates of the %s not reloaded, the old ones stay in use: %s", self._name, error)
            return False
        _log.info("certificates of the %s are in use", self._name)
        return True


def listener_context(tls: ListenerTls) -> tuple[ssl.SSLContext, Context]:
    """Return the context to listen with, and what makes it anew.

    A listening socket keeps its context, so that one hands every new connection on to the current one.

    Raises:
        TlsError: a file cannot be used.
    """
    context = Context(lambda: _server(tls), "listener", tls.files)
    outer = _server(tls)

    def hand_on(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = context.current

    outer.sni_callback = hand_on  # called whether the client names a server or not
    return outer, context


def upstream_context(upstream: Upstream) -> Context | None:
    """Return the context for connections to Redis, or None where they are not encrypted.

    Raises:
        TlsError: a file cannot be used.
    """
    if not upstream.tls:
        return None
    files = (upstream.ca_file, upstream.certificate_file, upstream.key_file)
    return Context(lambda: _client(upstream), "upstream", tuple(Path(file) for file in files if file))


def _server(tls: ListenerTls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, tls.certificate, tls.key)
    if tls.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _trust(context, tls.client_ca)
    return context


def _client(upstream: Upstream) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not upstream.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if upstream.ca_file:
        _trust(context, Path(upstream.ca_file))
    else:
        context.load_default_certs()
    if upstream.certificate_file:
        _load(context, Path(upstream.certificate_file), Path(upstream.key_file) if upstream.key_file else None)
    return context


def _load(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    for path in (certificate, key):
        _readable(path)
    try:
        # Without a password function OpenSSL would ask on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ssl.SSLError, ValueError) as error:
        files = f"{certificate}" if key is None else f"{certificate} and {key}"
        raise TlsError(f"{files}: no certificate and key that belong together: {_reason(error)}") from None


def _trust(context: ssl.SSLContext, authorities: Path) -> None:
    _readable(authorities)
    try:
        context.load_verify_locations(authorities)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"{authorities}: no certificate authorities: {_reason(error)}") from None


def _readable(path: Path | None) -> None:
    try:
        if path is not None:
            require_regular(path)  # OpenSSL reads it once more
            read_bounded(path, 1)
    except OSError as error:
        raise TlsError(f"{path}: {error.strerror or error}") from None


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
