"""`asynq-ttl why`: where a task is, what became of it, which rule decides, and what happens next.

An operator waits for it: what only some questions need is imported where they are asked.
"""

import binascii
import json
import os
from base64 import b64decode
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import click

from asynq_ttl.asynq.keys import text_of
from asynq_ttl.cli.options import FAILED, WRONG, FilePath, Listen, fail, option
from asynq_ttl.cli.policy_option import load
from asynq_ttl.cli.standard_output import say
from asynq_ttl.cli.tool_options import upstream_option
from asynq_ttl.existing_keys.why.account import Evidence, Json, account
from asynq_ttl.existing_keys.why.look import look
from asynq_ttl.existing_keys.why.past import merged
from asynq_ttl.net import address
from asynq_ttl.policy.reach import HANDOVER_GRACE_SECONDS
from asynq_ttl.policy.rules import DEFAULT_POLICY, Policy
from asynq_ttl.telemetry.log_search import search

UNKNOWN = 3
"""The exit status where nothing is known of the task."""


@click.command()
@click.argument("task_id")
@upstream_option
@click.option("--queue", default="", help="Only in this queue, which is the fastest. Default: in all of them.")
@option("--decisions", type=FilePath(), help="The decision log of a sidecar, older files included.")
@option(
    "--admin",
    type=Listen(),
    default=None,
    help="A running sidecar's admin server, HOST:PORT or unix:PATH: its journal, decision log and policy are asked.",
)
@option("--policy", type=FilePath(), help="The policy that decides now. Default: the sidecar's.")
@click.option("--base64", "encoded", is_flag=True, help="TASK_ID is given in base64, for IDs that cannot be typed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of sentences.")
def why(
    *,
    task_id: str,
    upstream: address.Upstream,
    queue: str,
    decisions: Path | None,
    admin: address.Address | None,
    policy: Path | None,
    encoded: bool,
    as_json: bool,
) -> None:
    """Say where a task is, what became of it, which rule decides, and what happens next. Changes nothing.

    Exits with 0 if something is known of the task, with 3 if nothing is, with 1 if something could not be looked at,
    with 2 if it was asked wrongly.
    """
    identity = _identity(task_id, encoded=encoded)
    chosen = load(policy) if policy is not None else None
    seen = look(upstream, queue, identity)
    told = [_of_log(decisions, identity, queue)] if decisions is not None else []
    if admin is not None:
        noted, running = _of_sidecar(admin, identity, queue)
        told.append(noted)
        chosen = chosen or running
    evidence = Evidence(
        identity,
        seen.found,
        seen.now,
        merged(*(each.entries for each in told)),
        chosen,
        [*seen.notes, *(note for each in told for note in each.notes)],
        failed=not (seen.whole and all(each.whole for each in told)),
        looked_at=seen.queues,
    )
    answer = account(evidence)
    for line in [json.dumps(answer)] if as_json else answer["sentences"]:
        say(line)
    raise SystemExit(FAILED if evidence.failed else 0 if evidence.known else UNKNOWN)


class _Noted(NamedTuple):
    """What somebody has noted of a task, how much that is worth, and whether all of it could be asked for."""

    entries: list[Json]
    notes: list[str]
    whole: bool


def _identity(task_id: str, *, encoded: bool) -> bytes:
    """Return the bytes of the ID that was typed."""
    try:
        identity = b64decode(task_id, validate=True) if encoded else os.fsencode(task_id)
    except (binascii.Error, ValueError):
        fail("TASK_ID is not base64", WRONG)
    if not identity:
        fail("TASK_ID is empty: no task of Asynq has such an ID", WRONG)
    return identity


def _of_log(path: Path, identity: bytes, queue: str) -> _Noted:
    """Ask a decision log."""
    try:
        answer = search(path, text_of(identity), queue)
    except OSError as error:
        return _Noted([], [f"The decision log {error.filename or path} cannot be read: {error.strerror}."], whole=False)
    return _Noted(answer.entries, answer.notes(str(path)), answer.whole)


def _ended(text: str) -> str:
    """Return a text with the end of a sentence."""
    return text if text.endswith("?") else f"{text}."


def _of_sidecar(admin: address.Address, identity: bytes, queue: str) -> tuple[_Noted, Policy | None]:
    """Ask a running sidecar; return what it has noted, and the policy by which it decides."""
    # Who asks no sidecar does not wait for HTTP and YAML to be imported.
    from asynq_ttl.cli.admin_client import AdminClientError, ask  # noqa: PLC0415
    from asynq_ttl.policy_file.load import parse_policy  # noqa: PLC0415

    named = f"id={quote(identity, safe='')}&queue={quote(os.fsencode(queue), safe='')}"
    try:
        told, policy = ask(admin, f"/api/task?redis=no&{named}"), ask(admin, "/api/policy")
    except AdminClientError as error:
        return _Noted([], [f"The sidecar could not be asked: {_ended(str(error))}"], whole=False), None
    running = parse_policy(policy["text"], policy["source"]) if policy["text"] else DEFAULT_POLICY
    running = running.handing_over(HANDOVER_GRACE_SECONDS) if policy["hands_over"] else running
    running = running if policy["mode_in_force"] == running.mode.value else running.shadowed()
    return _Noted(told["events"], told["notes"], told["whole"]), running
