"""Who may connect to the sidecar, and with whose credentials clients reach Redis: settings and options."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from asynq_ttl.net.address import Upstream
from asynq_ttl.net.tls import ListenerTls
from asynq_ttl.sidecar.settings import Access, ClientAuth

_FILE = click.Path(path_type=Path)
_OPTIONS = (
    ("--tls-cert", _FILE, None, "The listener's certificate and its chain. With it the listener speaks TLS alone."),
    ("--tls-key", _FILE, None, "Its private key, if it is not in the same file."),
    ("--tls-client-ca", _FILE, None, "Clients must show a certificate of this authority."),
    (
        "--client-auth",
        click.Choice([auth.value for auth in ClientAuth]),
        "pass",
        "What clients must show: pass (what Redis asks for), none, or a password of the sidecar's own.",
    ),
    ("--client-password-file", _FILE, None, "The sidecar's own passwords, one a line."),
    ("--upstream-password-file", _FILE, None, "The password of the sidecar's own connections, instead of in the URL."),
)


def access_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of access.

    The command gets them as one argument, `access`; its `upstream` gets the password file.
    """

    @functools.wraps(command)
    def folded(**values: Any) -> None:  # noqa: ANN401 - click's own
        names = [option[0].removeprefix("--").replace("-", "_") for option in _OPTIONS]
        cert, key, client_ca, auth, passwords, upstream_password = (values.pop(name) for name in names)
        access = _access(cert, key, client_ca, ClientAuth(auth), passwords)
        upstream: Upstream = values["upstream"]
        if upstream_password is not None:
            if upstream.password:
                raise click.UsageError("--upstream has a password, and --upstream-password-file is given: which one?")
            upstream = replace(upstream, password_file=str(upstream_password))
        if access.logs_in and not (upstream.password or upstream.password_file):
            _refuse_nothing(access)
        command(access=access, **{**values, "upstream": upstream})

    for name, kind, default, text in reversed(_OPTIONS):
        variable = "ASYNQ_TTL_" + name.removeprefix("--").replace("-", "_").upper()
        option = click.option(
            name, type=kind, default=default, envvar=variable, show_envvar=True, show_default=True, help=text
        )
        folded = option(folded)
    return folded


def _access(
    cert: Path | None, key: Path | None, client_ca: Path | None, auth: ClientAuth, passwords: Path | None
) -> Access:
    if cert is None and (key is not None or client_ca is not None):
        raise click.UsageError("--tls-key and --tls-client-ca need --tls-cert")
    if (auth is ClientAuth.PASSWORD) != (passwords is not None):
        raise click.UsageError("--client-auth password and --client-password-file FILE go together")
    return Access(None if cert is None else ListenerTls(cert, key, client_ca), auth, passwords)


def _refuse_nothing(access: Access) -> None:
    if access.auth is ClientAuth.NONE:
        raise click.UsageError("--client-auth none needs the sidecar's credentials: in --upstream, or by a file")
