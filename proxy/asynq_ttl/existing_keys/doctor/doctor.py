"""Checks a set-up: the server, the rights, who is connected, the clocks, and the policy against what exists.

Makes every check and sorts what they found; each kind of check has a module of its own. Changes nothing.

Invariant: a check that is passed is a finding too, of severity `FINE`, so that a person sees what was checked; so is a
check that the user has no right to make, and it keeps none of the others from being made.
"""

import time
from collections.abc import Callable, Iterator

from redis.exceptions import ResponseError

from asynq_ttl.existing_keys.clients import sentinel_clients
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.doctor import clients, key_types, policy_fit, prefixes, rights, sentinels, server_info
from asynq_ttl.existing_keys.doctor.sample import take_sample
from asynq_ttl.existing_keys.findings import Finding, Severity
from asynq_ttl.policy.rules import Policy


def examine(database: Database, policy: Policy, queues: list[str] | None, sample: int) -> list[Finding]:
    """Make all checks and return what they found, the worst first.

    Args:
        database: where.
        policy: the policy that is to be in force.
        queues: those that Asynq lists, at least one; None where the user may not ask.
        sample: about how many tasks are read, to learn which types there are.
    """
    info = database.info("everything")
    found = [
        *server_info.check(info),
        *_check_sentinels(database),
        *rights.check(database, queues),
        *_unless_refused(
            "key-types", "the types of keys were not looked at", lambda: key_types.check(database, queues or [])
        ),
        *_unless_refused("prefix", "other prefixes were not looked for", lambda: prefixes.check(database)),
        *_unless_refused("clock", "the clocks were not compared", lambda: _check_clock(database, policy)),
        *clients.check(database, int(info.get("connected_clients", 0))),
        *_unless_refused("policy", "tasks were not looked at", lambda: _check_policy(database, policy, sample)),
    ]
    return by_severity(found)


def by_severity(found: list[Finding]) -> list[Finding]:
    """Return findings, the worst first."""
    return sorted(found, key=lambda item: -item.severity)


def _unless_refused(code: str, undone: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Return what a check finds, or that the user may not make it."""
    try:
        return list(check())
    except ResponseError as error:
        # Of an unknown command Redis repeats the arguments.
        why = f"the server refuses what is needed for that: {str(error).partition(', with args')[0]}"
        return [Finding(code, Severity.NOTICE, undone, why, "see the findings about rights")]


def _check_policy(database: Database, policy: Policy, sample: int) -> Iterator[Finding]:
    tasks = take_sample(database, sample)
    yield from policy_fit.check_globs(policy, tasks)
    yield from policy_fit.check_times(policy, tasks)


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
