"""Whether the user in the URL may run what wrappers, the sidecar and the tools need. Changes nothing.

Which commands these are: `needed_rights`. A doctor tries all of them, and names all that are missing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from asynq_ttl.existing_keys import needed_rights
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.findings import Finding, Severity
from asynq_ttl.existing_keys.needed_rights import Need
from asynq_ttl.existing_keys.refused import Refused, probe_key

_OWN_PROBE = b"asynq-ttl:probe"


@dataclass(frozen=True, slots=True)
class _Check:
    """One group of rights: what it is called, how bad it is where one is missing, and what comes of that."""

    code: str
    need: Need
    severity: Severity
    may: str
    lost: str
    more: str = ""


_CHECKS = (
    _Check(
        "rights-wrappers",
        needed_rights.WRAPPERS,
        Severity.DANGER,
        "run what wrappers add",
        "tasks move without their TTL",
        "the users that clients log in as need the same",
    ),
    _Check(
        "rights-sidecar",
        needed_rights.CONTROL,
        Severity.DANGER,
        "load wrappers",
        "no wrapper is loaded: no task gets a TTL",
    ),
    _Check(
        "rights-sweeper",
        needed_rights.SWEEPER,
        Severity.DANGER,
        "run what the sweeper does",
        "due tasks stay until their keys expire, and TTLs stay on tasks that were run again without a sidecar",
    ),
    _Check(
        "rights-lock",
        needed_rights.LOCK,
        Severity.WARNING,
        "take the sweeper's lock",
        "the sweeper cannot take its lock, so it never sweeps",
    ),
    _Check(
        "rights-sink",
        needed_rights.SINK,
        Severity.NOTICE,
        "hand due tasks over to a sink",
        "with --sink nothing is handed over or removed",
    ),
    _Check(
        "rights-spans",
        needed_rights.SPANS,
        Severity.NOTICE,
        "find the tasks of bulk operations",
        "spans of bulk operations do not name tasks",
    ),
    _Check(
        "rights-tools",
        needed_rights.READING,
        Severity.NOTICE,
        "read tasks with the tools",
        "audit, backfill, persist and export refuse to run, and doctor does not look at tasks",
        "only the user of the tools needs it",
    ),
    _Check(
        "rights-changing",
        needed_rights.CHANGING,
        Severity.NOTICE,
        "change tasks with the tools",
        "backfill --apply and persist --apply refuse to run",
        "only the user of the tools needs it",
    ),
)
_SENTINELS = _Check(
    "rights-sentinels",
    needed_rights.BEHIND_SENTINELS,
    Severity.DANGER,
    "ask a master for its role",
    "the sidecar takes no server for the master, so clients are refused",
)
_CLUSTER = _Check(
    "rights-cluster",
    needed_rights.IN_CLUSTER,
    Severity.DANGER,
    "ask which nodes there are",
    "the sidecar and the tools do not find the nodes of the cluster",
)


def check(database: Database, queues: Sequence[str] | None) -> Iterator[Finding]:
    """Say for each group of rights whether the user has it, and name what else is done without.

    Args:
        database: where.
        queues: the names of the queues that Asynq lists: on keys of the first of them the commands are tried.
    """
    upstream = database.upstream
    more = [_SENTINELS] if upstream.sentinels else [_CLUSTER] if upstream.nodes else []
    for group in (*_CHECKS, *more):
        key = _OWN_PROBE if group.need.keys == needed_rights.OWN_KEYS else probe_key(queues)
        refused = database.refused(group.need.commands, key)
        yield (
            _missing(group, refused)
            if refused
            else Finding(group.code, Severity.FINE, f"the user may {group.may}", "", "")
        )
    yield _spared(database.refused(needed_rights.SPARED, probe_key(queues)))


def _missing(group: _Check, refused: Refused) -> Finding:
    advice = refused.advice(group.need.keys) + (f"; {group.more}" if group.more else "")
    return Finding(group.code, group.severity, f"{refused}", group.lost, advice)


def _spared(refused: Refused) -> Finding:
    names = (*refused.denied, *refused.unknown)
    if not names:
        return Finding("rights-spared", Severity.FINE, "the user may ask all that is nice to know", "", "")
    lost = "; ".join(needed_rights.SPARED[name].replace("`", "") for name in names)
    what = f"{Refused(refused.denied, refused.unknown)}, which is done without"
    advice = Refused(refused.denied, refused.unknown).advice(needed_rights.ASYNQ_KEYS)
    return Finding("rights-spared", Severity.NOTICE, what, lost, f"nothing has to be done; or {advice}")
