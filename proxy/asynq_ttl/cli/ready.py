"""`asynq-ttl ready`: a probe for images without a shell or curl.

It runs every few seconds beside a busy worker, so nothing is imported here that costs time to import.
"""

import http.client

import click

from asynq_ttl.cli.admin_client import FAULTS, connect
from asynq_ttl.cli.options import fail
from asynq_ttl.cli.standard_output import say
from asynq_ttl.net.address import AddressError, parse_address

_PROBE_SECONDS = 4.0
_MAX_TEXT_BYTES = 4096


@click.command()
@click.option(
    "--admin",
    envvar="ASYNQ_TTL_ADMIN",
    default="127.0.0.1:9180",
    show_default=True,
    show_envvar=True,
    help="The admin server of the sidecar: HOST:PORT or unix:PATH.",
)
@click.option("--live", "path", flag_value="/livez", help="Ask whether it works, with or without Redis.")
@click.option("--startup", "path", flag_value="/startupz", help="Ask whether it has started.")
def ready(admin: str, path: str | None) -> None:
    """Ask a running sidecar whether it can serve clients. Exits with 0 if so, else with 1 and says why."""
    path = path or "/readyz"
    try:
        connection = connect(parse_address(admin), _PROBE_SECONDS)
    except AddressError as error:
        raise click.BadParameter(str(error), param_hint="--admin") from None
    try:
        connection.request("GET", path)
        with connection.getresponse() as response:
            text = response.read(_MAX_TEXT_BYTES).decode(errors="replace").strip()
    except FAULTS as error:
        fail(f"no answer from the admin server at {admin}: {error}")
    finally:
        connection.close()
    if response.status != http.client.OK:
        fail(text or f"the admin server answers {path} with status {response.status}")
    say(text)
