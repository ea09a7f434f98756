"""The options of `serve` that say who may connect to the sidecar, and with whose credentials clients reach Redis.

Invariant: options that contradict each other, or would let in nobody, are refused before anything starts.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from asynq_ttl.cli.options import Choice, FilePath, option
from asynq_ttl.net.address import Upstream
from asynq_ttl.net.secret_file import SecretFileError, read_secrets
from asynq_ttl.net.tls import ListenerTls
from asynq_ttl.sidecar.settings import Access, ClientAuth

_FILE = FilePath()
_OPTIONS = (
    ("--tls-cert", _FILE, None, "The listener's certificate and its chain. With it the listener speaks TLS alone."),
    ("--tls-key", _FILE, None, "Its private key, if it is not in the same file."),
    ("--tls-client-ca", _FILE, None, "Clients must show a certificate of this authority."),
    (
        "--client-auth",
        Choice([auth.value for auth in ClientAuth]),
        "pass",
        "What clients must show: pass (what Redis asks for), none, or a password of the sidecar's own.",
    ),
    ("--client-password-file", _FILE, None, "The sidecar's own passwords, one a line."),
    ("--upstream-password-file", _FILE, None, "The password of the sidecar's own connections, instead of in the URL."),
)


def access_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of access. The command gets them as one argument, `access`, and the password file in `upstream`.

    The command has an option `upstream`.
    """

    @functools.wraps(command)
    def folded(**values: Any) -> None:  # noqa: ANN401 - click's own
        names = [name.removeprefix("--").replace("-", "_") for name, *_ in _OPTIONS]
        cert, key, client_ca, auth, passwords, upstream_password = (values.pop(name) for name in names)
        access = _access(cert, key, client_ca, ClientAuth(auth), passwords)
        upstream: Upstream = values["upstream"]
        if upstream_password is not None:
            if upstream.password:
                raise click.UsageError("--upstream has a password, and --upstream-password-file is given: which one?")
            upstream = replace(upstream, password_file=str(upstream_password))
        if access.auth is ClientAuth.NONE and not (upstream.password or upstream.password_file):
            raise click.UsageError("--client-auth none needs the sidecar's credentials: in --upstream, or by a file")
        command(access=access, **{**values, "upstream": upstream})

    for name, kind, default, text in reversed(_OPTIONS):
        folded = option(name, type=kind, default=default, help=text)(folded)
    return folded


def _access(
    cert: Path | None, key: Path | None, client_ca: Path | None, auth: ClientAuth, passwords: Path | None
) -> Access:
    if cert is None and (key is not None or client_ca is not None):
        raise click.UsageError("--tls-key and --tls-client-ca need --tls-cert")
    if (auth is ClientAuth.PASSWORD) != (passwords is not None):
        raise click.UsageError("--client-auth password and --client-password-file FILE go together")
    if passwords is not None:
        _check_passwords(passwords)
    return Access(None if cert is None else ListenerTls(cert, key, client_ca), auth, passwords)


def _check_passwords(file: Path) -> None:
    """Refuse a file that would let in nobody. Later it may be replaced by any other."""
    try:
        there = bool(read_secrets(file))
    except SecretFileError as error:
        raise click.UsageError(f"--client-password-file {error}") from None
    if not there:
        raise click.UsageError(f"--client-password-file {file}: there is no password in it")
