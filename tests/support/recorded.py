"""Decisions, pages of sweeps and scripts for tests of what is told about them."""

from asynq_ttl.events import Action, Activated, Adopted, Decision, FailedOpen, FailOpen, Outcome, Swept
from asynq_ttl.net.address import parse_upstream
from asynq_ttl.policy.rules import DEFAULT_POLICY, Policy, State
from asynq_ttl.rewriting.registry import Script, ScriptRegistry
from asynq_ttl.sidecar.sidecar import Sidecar
from asynq_ttl.telemetry.recorder import Telemetry
from support.in_process import make_sidecar
from support.small_scripts import ARCHIVE

UPSTREAM = parse_upstream("redis://127.0.0.1:6379/0")
START, END = 1_700_000_000_000_000_000, 1_700_000_000_000_250_000


def decision(**changes: object) -> Decision:
    """Return a decision about an archived task, with changes."""
    fields: dict[str, object] = {
        "operation": "archive",
        "script": "asynq.archive",
        "queue": "mail",
        "state": "archived",
        "action": Action.TTL,
        "enforced": True,
        "task_id": "id-1",
        "task_type": "email:send",
        "rule": "default",
        "ttl_seconds": 3_660,
        "size_bytes": 100,
        "own_seconds": 7_776_000,
    }
    return Decision(**(fields | changes))  # type: ignore[arg-type] # what a test gives


def outcome(reply: bytes = b"+OK", **changes: object) -> Outcome:
    """Return the outcome of such a decision, a quarter of a millisecond later."""
    return Outcome(decision(**changes), 0, START, END, reply)


def swept(*due: str, ghosts: int = 0, queue: str = "mail") -> Swept:
    """Return a page of a sweep."""
    return Swept(0, queue, State.ARCHIVED, 500, due, ghosts, START, END)


def adopted(*ids: str, queue: str = "mail", undated: int = 0, enforced: bool = True) -> Adopted:
    """Return tasks that were adopted."""
    return Adopted(0, queue, State.ARCHIVED, "default", ids, 3_660, undated, enforced, START, END)


def sidecar(policy: Policy = DEFAULT_POLICY, *, pulled: bool = False, task_ids: bool = True) -> Sidecar:
    """Return a sidecar that does not run."""
    telemetry = Telemetry(UPSTREAM, {}, pulled=pulled, task_ids=task_ids)
    return make_sidecar(policy=policy, telemetry=telemetry)


def failed_open(
    reason: FailOpen, detail: str = "x", script: Script | None = None, queue: str = "", task_id: str = ""
) -> FailedOpen:
    """Return a fail-open at `START`."""
    kind, sha = (script.kind.value, script.sha.decode()) if script is not None else ("", "")
    return FailedOpen(reason, detail, START, kind, sha, queue, task_id)


def activated(script: Script, error: str = "", *, refused: bool = False) -> Activated:
    """Return the end of loading a wrapper, a quarter of a millisecond after `START`."""
    names = script.kind.value, script.sha.decode(), script.wrapper_sha.decode()
    return Activated(*names, START, END, error, refused=refused)


ARCHIVE_SCRIPT = ScriptRegistry().learn(ARCHIVE)
ARCHIVE_SHA = ARCHIVE_SCRIPT.sha.decode()
