"""Checks a set-up: the server, the rights, who is connected, and the policy against what exists. Changes nothing.

Each check is a function that returns findings, one of them `FINE` where all is well, so that a person sees what was
looked at. A check that the user may not make is a finding too.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from asynq_ttl.asynq.task import Task, seconds_of
from asynq_ttl.existing_keys.database import Database, sentinel_clients
from asynq_ttl.existing_keys.doctor import rights
from asynq_ttl.existing_keys.doctor import sentinels as quorum
from asynq_ttl.existing_keys.findings import Finding, Severity
from asynq_ttl.existing_keys.pages import task_pages
from asynq_ttl.policy.plan import verdict_of
from asynq_ttl.policy.rules import OWN_ARCHIVE_SECONDS, Keep, Policy, State
from asynq_ttl.times import format_duration

_FINE, _NOTICE, _WARNING, _DANGER = Severity.FINE, Severity.NOTICE, Severity.WARNING, Severity.DANGER
_ASYNQ_NEEDS, _TRIED_SINCE = (4, 0), (6, 2)
_MOST_SCRIPTS = 500
_SKEW_SECONDS = 2.0
_OWN_NAMES = ("asynq-ttl", "asynq-ttl-sweeper", "asynq-ttl-tools")
_SHOWN = 5
_MOST_CLIENTS = 2_000


@dataclass(slots=True)
class Census:
    """The queues and types of a sample of tasks, and what their times tell.

    Attributes:
        tasks: how many were looked at.
        whole: whether that was all of them.
        kinds: queue and type of them.
        locks: the longest time that a lock of a task that is not completed lives on, by queue and type; seconds.
        waits: the longest time until a retry, likewise.
    """

    tasks: int = 0
    whole: bool = True
    kinds: set[tuple[str, str]] = field(default_factory=set)
    locks: dict[tuple[str, str], int] = field(default_factory=dict)
    waits: dict[tuple[str, str], int] = field(default_factory=dict)


def examine(database: Database, policy: Policy, queues: list[str], sample: int) -> list[Finding]:
    """Make all checks and return what they found, the worst first.

    Args:
        database: where.
        policy: the policy that is to be in force.
        queues: those that Asynq lists.
        sample: the most tasks looked at to learn which types there are.
    """
    info: dict[str, Any] = dict(database.client.info("everything"))
    found = [
        *_version(info),
        *_memory(info),
        *_scripts(info),
        *_topology(info),
        *_sentinels(database),
        *_connections(info),
        *_rights(database, queues[0]),
        *_clock(database, policy),
        *_clients(database, int(info["connected_clients"])),
    ]
    census = take_census(database, sample)
    found += [*_policy_fit(policy, census), *_times(policy, census)]
    return sorted(found, key=lambda item: -item.severity)


def take_census(database: Database, most: int) -> Census:
    """Look at tasks until there are enough."""
    census = Census()
    now = database.now()
    for cursor, page in task_pages(database):
        for task in page:
            _count(database, census, task, now)
        if census.tasks >= most and cursor:
            census.whole = False
            break
    return census


def _count(database: Database, census: Census, task: Task, now: int) -> None:
    if task.record is None:
        return
    census.tasks += 1
    kind = (task.queue, task.type)
    census.kinds.add(kind)
    if task.locked and task.state != State.COMPLETED.value and len(census.locks) < 200:
        left = int(database.client.pttl(task.record.unique_key)) // 1000
        census.locks[kind] = max(census.locks.get(kind, 0), left)
    if task.state == "retry" and task.score is not None:
        census.waits[kind] = max(census.waits.get(kind, 0), seconds_of(task.score) - now)


def _version(info: dict[str, Any]) -> Iterator[Finding]:
    product = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info["redis_version"])
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    what = f"the server is {product} {version}"
    if numbers < _ASYNQ_NEEDS:
        yield Finding("version", _DANGER, what, "Asynq needs Redis 4.0 or later", "use a newer server")
    elif numbers < _TRIED_SINCE:
        why = "asynq-ttl is tried with Redis 6.2 and later; users with rights of their own (ACL) came with 6.0"
        yield Finding("version", _WARNING, what, why, "use a newer server")
    else:
        yield Finding("version", _FINE, what, "every Asynq since v0.18 runs on it, and asynq-ttl is tried with it", "")


def _memory(info: dict[str, Any]) -> Iterator[Finding]:
    rule, limit = str(info.get("maxmemory_policy", "noeviction")), int(info.get("maxmemory", 0))
    what = f"maxmemory-policy is {rule}, maxmemory is {f'{limit:,} bytes' if limit else 'not set'}"
    if rule.startswith("allkeys"):
        why = "when memory is full Redis throws away any key: waiting tasks and whole queues as well"
        yield Finding("eviction", _DANGER if limit else _WARNING, what, why, "set maxmemory-policy noeviction")
    elif rule.startswith("volatile"):
        why = (
            "when memory is full Redis throws away keys that have a TTL: that is archived and completed tasks now, "
            "before their time, and it leaves ghosts in their indexes; uniqueness locks have a TTL too"
        )
        yield Finding("eviction", _WARNING, what, why, "set maxmemory-policy noeviction, and alert on memory instead")
    else:
        yield Finding("eviction", _FINE, what, "a TTL makes no key a candidate of eviction", "")
    if limit and int(info["used_memory"]) > limit * 0.9:
        share = int(info["used_memory"]) * 100 // limit
        why = "with noeviction Asynq cannot enqueue once it is full"
        yield Finding(
            "memory-full", _WARNING, f"{share} % of maxmemory are used", why, "see asynq-ttl audit for what to free"
        )


def _scripts(info: dict[str, Any]) -> Iterator[Finding]:
    count = int(info.get("number_of_cached_scripts", 0))
    what = f"{count:,} scripts are cached"
    if count > _MOST_SCRIPTS:
        why = (
            "Asynq and asynq-ttl together have about 100. Some client sends texts that differ each time; servers since "
            "Redis 7.4 and Valkey 8 then drop the oldest, and clients get NOSCRIPT more often"
        )
        yield Finding("script-cache", _WARNING, what, why, "find the client that puts values into script texts")
    else:
        yield Finding("script-cache", _FINE, what, "wrappers stay loaded until the server restarts", "")


def _topology(info: dict[str, Any]) -> Iterator[Finding]:
    mode, role = str(info.get("redis_mode") or info.get("server_mode", "standalone")), str(info.get("role", "master"))
    if mode == "cluster":
        why = "the sidecar and these tools talk to one node: they see the keys of that node alone"
        yield Finding("topology", _DANGER, "the server is a node of a cluster", why, "a cluster is not supported yet")
    elif mode == "sentinel":
        why = "it holds no tasks"
        yield Finding("topology", _DANGER, "the address is that of a Sentinel", why, "give the address of the master")
    elif role != "master":
        why = "it takes no writes, and it may lag behind: nothing can be wrapped, swept or backfilled there"
        advice = f"give the address of its master, {info.get('master_host')}:{info.get('master_port')}"
        yield Finding("topology", _DANGER, "the server is a replica", why, advice)
    else:
        replicas = int(info.get("connected_slaves", 0))
        what = f"the server is a master with {replicas} replicas" if replicas else "the server stands alone"
        yield Finding("topology", _FINE, what, "", "")
    if int(info.get("loading", 0)):
        yield Finding("loading", _WARNING, "the server is loading its data", "it answers with LOADING", "wait")


def _sentinels(database: Database) -> Iterator[Finding]:
    upstream = database.upstream
    if upstream.sentinels:
        answers = [quorum.ask(address, client, upstream.master) for address, client in sentinel_clients(upstream)]
        yield from quorum.examine(answers, database.client)


def _connections(info: dict[str, Any]) -> Iterator[Finding]:
    clients, most = int(info["connected_clients"]), int(info.get("maxclients", 0))
    if most and clients > most * 0.8:
        what = f"{clients:,} of at most {most:,} clients are connected"
        why = "the sidecar has one connection for each of its clients, and a few of its own"
        yield Finding("maxclients", _WARNING, what, why, "raise maxclients")


def _rights(database: Database, queue: str) -> Iterator[Finding]:
    for code, whose, commands, advice in (
        ("rights-wrappers", "what wrappers add", rights.WRAPPERS, "the users that clients log in as need the same"),
        ("rights-sweeper", "what the sweeper does", rights.SWEEPER, "see docs/failure-modes.md for the whole list"),
    ):
        denied = database.denied(queue, rights.tries(commands))
        if denied:
            names = ", ".join(denied)
            why = "tasks move without their TTL" if "wrappers" in code else "due tasks stay until their keys expire"
            wanted = " ".join(f"+{name.lower()}" for name in denied)
            yield Finding(code, _DANGER, f"the user may not run {names}", why, f"give it {wanted} ~asynq:*; {advice}")
        else:
            yield Finding(code, _FINE, f"the user may do {whose}", "", "")
    denied = database.denied_on(b"asynq-ttl:probe", rights.tries(rights.LOCK))
    if denied:
        what = f"the user may not run {', '.join(denied)} on asynq-ttl:*"
        yield Finding(
            "rights-lock",
            _WARNING,
            what,
            "the sweeper cannot take its lock, so it never sweeps",
            "give it ~asynq-ttl:*",
        )
    else:
        yield Finding("rights-lock", _FINE, "the user may take the sweeper's lock", "", "")


def _clock(database: Database, policy: Policy) -> Iterator[Finding]:
    before = time.time()
    seconds, microseconds = database.client.time()
    after = time.time()
    skew = int(seconds) + int(microseconds) / 1e6 - (before + after) / 2
    what = f"the clocks of Redis and of this machine differ by {abs(skew):.1f} s"
    if abs(skew) <= max(_SKEW_SECONDS, after - before):
        yield Finding("clock", _FINE, what, "", "")
        return
    why = (
        "death and expiry times in the indexes are the workers', TTLs are Redis's: tasks are removed that much too "
        f"early or late. The grace of {format_duration(policy.grace_seconds)} bridges as much"
    )
    severity = _DANGER if abs(skew) > policy.grace_seconds else _WARNING
    yield Finding("clock", severity, what, why, "run NTP on both; is this machine's clock that of the workers?")


def _clients(database: Database, connected: int) -> Iterator[Finding]:
    """Tell by their addresses which clients of Asynq do not come through a sidecar."""
    if connected > _MOST_CLIENTS:
        what = f"who is connected was not looked at: there are {connected:,} clients"
        why = "listing them would hold Redis up for milliseconds"
        yield Finding("bypass", _NOTICE, what, why, "look yourself, at a quiet time: CLIENT LIST")
        return
    try:
        clients: list[dict[str, str]] = database.client.client_list()
    except ResponseError as error:
        what = "who is connected cannot be looked at"
        yield Finding("bypass", _NOTICE, what, f"the user may not run CLIENT LIST ({error})", "give it +client|list")
        return
    if any(client.get("name", "").startswith("sentinel-") for client in clients) and not database.upstream.sentinels:
        what = "Sentinels watch this server"
        why = "after a failover this address is that of a replica, which takes no writes"
        yield Finding(
            "sentinel", _WARNING, what, why, "give the URL of the Sentinels: redis+sentinel://HOST:PORT/MASTER/DB"
        )
    sidecars = {_host(client) for client in clients if client.get("name") in _OWN_NAMES[:2]}
    others = [client for client in clients if client.get("name") not in _OWN_NAMES and _is_asynq(client)]
    past = sorted({_host(client) for client in others if _host(client) not in sidecars})
    if not sidecars:
        what = f"no sidecar is connected, and {len(others)} clients of Asynq are"
        why = "tasks that are archived or completed now get no TTL"
        yield Finding(
            "bypass", _WARNING if others else _NOTICE, what, why, "start asynq-ttl serve, and point clients at it"
        )
    elif past:
        what = "clients of Asynq connect from where no sidecar is"
        why = (
            "what they archive or complete gets no TTL, and what they run again keeps it: it may vanish while it waits"
        )
        advice = "point them at the sidecar; docs/mixed-fleets.md says what holds until then"
        yield Finding("bypass", _WARNING, what, why, advice, len(past), past[:_SHOWN])
    else:
        what = f"all {len(others)} clients of Asynq come from where a sidecar is: {', '.join(sorted(sidecars))}"
        why = "whether those on the same machine go through it cannot be told from here"
        yield Finding("bypass", _FINE, what, why, "")


def _is_asynq(client: dict[str, str]) -> bool:
    """Say whether a connection does what Asynq does."""
    return client.get("cmd") in ("evalsha", "subscribe") or "go-redis" in client.get("lib-name", "")


def _host(client: dict[str, str]) -> str:
    return client.get("addr", "").rpartition(":")[0] or "unix socket"


def _policy_fit(policy: Policy, census: Census) -> Iterator[Finding]:
    """Hold the rules against the queues and types that there are."""
    looked = "" if census.whole else f" (of {census.tasks:,} tasks looked at)"
    idle = [
        rule.name
        for rule in policy.rules
        # What a rule deletes at once is never there to be seen.
        if any(retention.keep is not Keep.DELETE for retention in (rule.archived, rule.completed) if retention)
        and census.kinds
        and not any(rule.matches_queue(queue) and rule.matches_type(kind) for queue, kind in census.kinds)
    ]
    if idle:
        what = f"rules that match no task{looked}: {', '.join(idle)}"
        why = "a typing error in a glob looks like this; so does a type that is rare"
        seen = [f"{queue}: {kind}" for queue, kind in sorted(census.kinds)][:_SHOWN]
        yield Finding("idle-rules", _WARNING, what, why, "compare with the queues and types there are", examples=seen)
    bare = [
        f"{queue}: {kind} ({state.value})"
        for queue, kind in sorted(census.kinds)
        for state in State
        if verdict_of(policy, queue, kind, state) is None
    ]
    if bare:
        what = f"queues and types that no rule decides about{looked}"
        why = "such tasks get no TTL: Asynq alone decides"
        advice = "end the policy with a rule without match"
        yield Finding("unmatched-types", _NOTICE, what, why, advice, len(bare), bare[:_SHOWN])
    if not idle and not bare:
        what = f"each rule that keeps tasks matches one, and each of {len(census.kinds)} types a rule{looked}"
        yield Finding("policy", _FINE, what, "", "")


def _times(policy: Policy, census: Census) -> Iterator[Finding]:
    """Hold the times of the rules against locks and retries."""
    for code, found, name, why, advice in (
        (
            "shorter-than-lock",
            census.locks,
            "uniqueness lock",
            "the lock is freed with the archived task, so the same task can be enqueued again before its lock ends",
            "keep archived tasks for at least as long as Unique says, if uniqueness has to outlive a failure",
        ),
        (
            "shorter-than-retry",
            census.waits,
            "wait for a retry",
            "a failure is forgotten before another task of its kind has had its next attempt",
            "keep archived tasks for longer than a retry may wait",
        ),
    ):
        short = list(_shorter(policy, found.items()))
        if short:
            what = f"types that are archived for less time than their {name} takes"
            yield Finding(
                code,
                _WARNING if code == "shorter-than-lock" else _NOTICE,
                what,
                why,
                advice,
                len(short),
                short[:_SHOWN],
            )


def _shorter(policy: Policy, times: Iterable[tuple[tuple[str, str], int]]) -> Iterator[str]:
    for (queue, kind), seconds in times:
        verdict = verdict_of(policy, queue, kind, State.ARCHIVED)
        kept = verdict.retention.resolve(OWN_ARCHIVE_SECONDS) if verdict else None
        if verdict is not None and kept is not None and kept < seconds:
            said = "deleted" if verdict.retention.keep is Keep.DELETE else f"kept for {format_duration(kept)}"
            yield f"{queue}: {kind} is {said} by rule {verdict.rule}, against {format_duration(seconds)}"
