"""Checks a set-up: the server, the rights, who is connected, the clocks, and the policy against what exists.

Makes every check and sorts what they found; each kind of check has a module of its own. Changes nothing.

Invariant: a check that is passed is a finding too, of severity `FINE`, so that a person sees what was checked; so is a
check that the user has no right to make.
"""

import time
from collections.abc import Iterator
from typing import Any

from asynq_ttl.existing_keys.database import Database, sentinel_clients
from asynq_ttl.existing_keys.doctor import clients, key_types, policy_fit, rights, sentinels, server_info
from asynq_ttl.existing_keys.doctor.sample import take_sample
from asynq_ttl.existing_keys.findings import Finding
from asynq_ttl.policy.rules import Policy


def examine(database: Database, policy: Policy, queues: list[str], sample: int) -> list[Finding]:
    """Make all checks and return what they found, the worst first.

    Args:
        database: where.
        policy: the policy that is to be in force.
        queues: those that Asynq lists, at least one.
        sample: about how many tasks are read, to learn which types there are.
    """
    info: dict[str, Any] = dict(database.client.info("everything"))
    found = [
        *server_info.check_version(info),
        *server_info.check_memory(info),
        *server_info.check_scripts(info),
        *server_info.check_topology(info),
        *_check_sentinels(database),
        *server_info.check_connections(info),
        *rights.check(database, queues[0]),
        *key_types.check(database, queues),
        *_check_clock(database, policy),
        *clients.check(database, int(info["connected_clients"])),
    ]
    tasks = take_sample(database, sample)
    found += [*policy_fit.check_globs(policy, tasks), *policy_fit.check_times(policy, tasks)]
    return sorted(found, key=lambda item: -item.severity)


def _check_sentinels(database: Database) -> Iterator[Finding]:
    upstream = database.upstream
    if upstream.sentinels:
        answers = [sentinels.ask(address, client, upstream.master) for address, client in sentinel_clients(upstream)]
        yield from sentinels.check(answers, database.client)


def _check_clock(database: Database, policy: Policy) -> Iterator[Finding]:
    before = time.time()
    seconds, microseconds = database.client.time()
    after = time.time()
    skew = int(seconds) + int(microseconds) / 1e6 - (before + after) / 2
    yield server_info.check_clock(skew, after - before, policy.grace_seconds)
