"""`asynq-ttl doctor`: what is wrong with a set-up."""

from pathlib import Path

import click

from asynq_ttl.cli.admin_client import AdminClientError, Json, ask
from asynq_ttl.cli.options import FAILED, Listen, fail, option
from asynq_ttl.cli.policy_option import load, policy_option
from asynq_ttl.cli.printing import console
from asynq_ttl.cli.standard_output import say, writing
from asynq_ttl.cli.tool_options import rate_option, reached, upstream_option
from asynq_ttl.existing_keys.doctor import decision_log, scripts
from asynq_ttl.existing_keys.doctor.doctor import by_severity, examine
from asynq_ttl.existing_keys.findings import Finding, findings_json, print_findings, worst
from asynq_ttl.net import address


@click.command()
@upstream_option
@policy_option
@click.option("--json", "json_wanted", is_flag=True, help="Print JSON instead of text.")
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=20_000,
    show_default=True,
    help="The most tasks looked at to learn which types there are.",
)
@option(
    "--admin",
    type=Listen(),
    default=None,
    help="Where a running sidecar's admin server listens, HOST:PORT or unix:PATH, to ask which scripts it does not "
    "understand, and whether its decision log is whole.",
)
@rate_option
def doctor(
    *,
    upstream: address.Upstream,
    policy: Path | None,
    json_wanted: bool,
    sample: int,
    admin: address.Address | None,
    rate: float,
) -> None:
    """Check a set-up: server, rights, clients, clocks, and the policy against what exists. Changes nothing.

    Exits with 0 if nothing needs to be done, with 3 after a warning, with 4 if tasks can be lost.
    """
    loaded = load(policy)
    not_understood = _ask_sidecar(admin) if admin is not None else []
    with reached(upstream, rate) as database:
        findings = by_severity([*examine(database, loaded, database.queues(), sample), *not_understood])
    if json_wanted:
        say(findings_json(str(upstream), findings))
    else:
        with writing():
            print_findings(findings, console())
    raise SystemExit(worst(findings).status)


def _ask_sidecar(admin: address.Address) -> list[Finding]:
    """Return what a running sidecar says of the scripts that it does not understand, and of its decision log."""
    try:
        told = ask(admin, "/api/status")
    except AdminClientError as error:
        fail(str(error), FAILED)
    unclear: list[Json] = told.get("scripts_not_understood", [])
    return [
        *scripts.check([(each["script"], each["wrapped"], each["first_line"]) for each in unclear]),
        *decision_log.check(told.get("decision_log")),
    ]
