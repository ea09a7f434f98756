"""Checks a set-up: the server, the rights, who is connected, the clocks, and the policy against what exists.

Makes every check and sorts what they found; each kind of check has a module of its own. Changes nothing.

Invariant: a check that is passed is a finding too, of severity `FINE`, so that a person sees what was checked; so is a
check that the user has no right to make, and it keeps none of the others from being made.
"""

from collections.abc import Iterator

from asynq_ttl.existing_keys.clients import sentinel_clients
from asynq_ttl.existing_keys.cluster.database import ClusterDatabase
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.doctor import (
    clients,
    clock,
    cluster,
    key_types,
    policy_fit,
    prefixes,
    rights,
    sentinels,
    server_info,
)
from asynq_ttl.existing_keys.doctor.refusals import unless_refused
from asynq_ttl.existing_keys.doctor.sample import take_sample
from asynq_ttl.existing_keys.findings import Finding
from asynq_ttl.policy.rules import Policy


def examine(database: Database, policy: Policy, queues: list[str] | None, sample: int) -> list[Finding]:
    """Make all checks and return what they found, the worst first.

    Args:
        database: where.
        policy: the policy that is to be in force.
        queues: those that Asynq lists, at least one; None where the user may not ask.
        sample: about how many tasks are read, to learn which types there are.
    """
    found = [
        *(
            cluster.check(database, policy)
            if isinstance(database, ClusterDatabase)
            else _check_server(database, policy)
        ),
        *rights.check(database, queues),
        *unless_refused(
            "key-types", "the types of keys were not looked at", lambda: key_types.check(database, queues or [])
        ),
        *unless_refused("prefix", "other prefixes were not looked for", lambda: prefixes.check(database)),
        *unless_refused("policy", "tasks were not looked at", lambda: _check_policy(database, policy, sample)),
        *(cluster.check_read(database) if isinstance(database, ClusterDatabase) else ()),
    ]
    return by_severity(found)


def by_severity(found: list[Finding]) -> list[Finding]:
    """Return findings, the worst first."""
    return sorted(found, key=lambda item: -item.severity)


def _check_policy(database: Database, policy: Policy, sample: int) -> Iterator[Finding]:
    tasks = take_sample(database, sample)
    yield from policy_fit.check_globs(policy, tasks)
    yield from policy_fit.check_times(policy, tasks)


def _check_sentinels(database: Database) -> Iterator[Finding]:
    upstream = database.upstream
    if upstream.sentinels:
        answers = [sentinels.ask(address, client, upstream.master) for address, client in sentinel_clients(upstream)]
        yield from sentinels.check(answers, database.client)


def _check_server(database: Database, policy: Policy) -> Iterator[Finding]:
    """Check the one server that there is: what it says of itself, its clock, and who is connected."""
    info = database.info("everything")
    yield from server_info.check(info)
    yield from _check_sentinels(database)
    yield from unless_refused(
        "clock", "the clocks were not compared", lambda: [clock.check(database.client, policy.grace_seconds)]
    )
    yield from clients.check(database, int(info.get("connected_clients", 0)))
