"""What a running sidecar says of itself, as plain data that becomes JSON.

Invariant: nothing here changes anything.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from importlib import metadata
from itertools import islice
from typing import Any

from asynq_ttl.asynq.keys import printable
from asynq_ttl.policy.rules import FULL_ROLLOUT, SCHEDULER_HISTORY, Keep, Rule
from asynq_ttl.rewriting.registry import Script, Status
from asynq_ttl.sidecar.node_figures import node_states
from asynq_ttl.sidecar.sidecar import Sidecar
from asynq_ttl.telemetry.logs import level_in_force
from asynq_ttl.times import format_duration, rfc3339

Json = dict[str, Any]

# More connections than this are counted, not listed.
MAX_CONNECTIONS = 1_000

# More scripts than this are not listed, and no more of a line is shown.
MAX_SCRIPTS = 50
_MAX_LINE = 100

_VERSION = metadata.version("asynq-ttl")


def overview(sidecar: Sidecar) -> Json:
    """Return the state of the sidecar and what it has done since its start."""
    telemetry, relay = sidecar.telemetry, sidecar.relay
    return {
        "version": _VERSION,
        "started": rfc3339(sidecar.started_ns / 1e9),
        "listen": str(sidecar.listening or sidecar.settings.listen),
        "problem": sidecar.problem,
        "paused": sidecar.in_force.paused,
        "mode": sidecar.in_force.mode.value,
        "log_level": level_in_force(),
        "policy": policy_in_force(sidecar),
        "upstream": _upstream(sidecar),
        "traffic": {
            "commands": relay.commands,
            "connections": len(relay.connections),
            "accepted": relay.accepted,
            "refused": relay.refused,
            "bytes_downstream": relay.traffic.bytes_from_clients,
            "bytes_upstream": relay.traffic.bytes_from_redis,
        },
        "decisions": {
            "by_action": _summed(telemetry.decisions, 3),
            "by_mode": _summed(telemetry.decisions, 4),
            "by_queue": dict(_summed(telemetry.decisions, 0).most_common(50)),
        },
        "fail_opens": _summed(telemetry.fail_opens, 0),
        "fail_opens_by_queue": dict(_summed(telemetry.fail_opens, 1).most_common(50)),
        "scripts_not_understood": scripts_not_understood(sidecar),
        "sweep": _sweep(sidecar),
        "latency_microseconds": {name: _quantiles(values) for name, values in telemetry.latencies.items()},
        "wrappers": Counter(sidecar.registry.status_anywhere(script).value for script in sidecar.registry.wrapped()),
        "tracing": {
            "on": telemetry.spans.on,
            "made": telemetry.spans.made,
            "exported": dict(telemetry.spans.exported),
        },
        "decision_log": _decision_log(sidecar),
        "watchers": {"watching": telemetry.recent.watchers, "dropped": telemetry.recent.dropped},
    }


def _upstream(sidecar: Sidecar) -> Json:
    """Return where Redis is: the URL that was given, without credentials, and the server that Sentinels have named."""
    told: Json = {
        "address": str(sidecar.settings.upstream),
        "server": str(sidecar.endpoint.address or ""),
        "problem": sidecar.upstream_problem,
    }
    if sidecar.sentinels is not None:
        told["sentinels"] = {
            "named": len(sidecar.settings.upstream.sentinels),
            "away": sidecar.sentinels.away,
            "switches": sidecar.sentinels.switches,
        }
    if sidecar.nodes is not None:
        told["nodes"] = [asdict(state) for state in node_states(sidecar.nodes)]
        told["portless"] = sidecar.nodes.table.portless
    return told


def _sweep(sidecar: Sidecar) -> Json:
    """Return what the sweeper has done."""
    telemetry, sweepers = sidecar.telemetry, sidecar.sweepers
    return {
        "leads": any(sweeper.leads for sweeper in sweepers),
        "behind": any(sweeper.behind for sweeper in sweepers),
        "due": telemetry.sweeps_due.total(),
        "ghosts": telemetry.sweeps_ghosts.total(),
        "adopted": telemetry.adoptions.total,
        "held": sum(sweeper.held() for sweeper in sweepers),
        "rounds": dict(telemetry.sweep_rounds),
        "sink": {"failures": sidecar.handover.failures, "problem": sidecar.handover.problem}
        if sidecar.handover is not None
        else None,
        "refusals": sum(sweeper.failures.refusals.total() for sweeper in sweepers),
        "failing": [
            {"place": failing.place, "error": failing.error, "at": rfc3339(failing.at)}
            for sweeper in sweepers
            for failing in sweeper.failures.places()
        ],
        "last": rfc3339(telemetry.swept_at) if telemetry.swept_at else "",
    }


def _decision_log(sidecar: Sidecar) -> Json | None:
    """Return how the decision log is; None where there is none."""
    log = sidecar.decision_log
    if log is None:
        return None
    lacks = f"the decision log {log.path} lacks {log.dropped:,} entries" if log.dropped else ""
    return {
        "file": str(log.path),
        "lines": log.lines,
        "dropped": log.dropped,
        "failures": log.failures,
        "problem": log.problem,
        "trouble": log.problem or lacks,
    }


def policy_in_force(sidecar: Sidecar) -> Json:
    """Return the policy in force, and how often each of its rules has decided."""
    policy, reload = sidecar.in_force.policy, sidecar.in_force.last_reload
    # A rule may have the name that stands for it where a history is concerned.
    tasks = {labels: count for labels, count in sidecar.telemetry.decisions.items() if labels[1] != SCHEDULER_HISTORY}
    decided = _summed(Counter(tasks), 2)
    return {
        "source": policy.source,
        "digest": policy.digest,
        "mode": policy.mode.value,
        "mode_in_force": sidecar.in_force.mode.value,
        "hands_over": sidecar.handover is not None,
        "adopt": policy.adopt.value,
        "rollout": f"{policy.rollout * 100 / FULL_ROLLOUT:g}%",
        "grace_seconds": policy.grace_seconds,
        "scheduler_history": format_duration(policy.scheduler_history) if policy.scheduler_history else Keep.OWN.value,
        "last_reload": {"time": rfc3339(reload.at_ns / 1e9), "faults": list(reload.faults)},
        "rules": [_rule(rule) | {"decided": decided[rule.name]} for rule in policy.rules],
        # Bulk operations, whose rule is picked inside Redis, and tasks that are run again.
        "decided_without_rule": decided[""],
    }


def connections(sidecar: Sidecar) -> Json:
    """Return how many client connections are open, and the first `MAX_CONNECTIONS` of them one by one."""
    relay = sidecar.relay
    return {
        "open": len(relay.connections),
        "connections": [
            {
                "peer": connection.peer,
                "database": connection.session.database,
                "commands": connection.session.commands,
                "pending": connection.session.pending,
                "held_bytes": connection.session.held_bytes,
                "counting": connection.session.counting,
            }
            for connection in islice(relay.connections, MAX_CONNECTIONS)
        ],
    }


def wrappers(sidecar: Sidecar) -> Json:
    """Return the scripts that have a wrapper, and where it is loaded."""
    return {
        "upstream": str(sidecar.settings.upstream),
        "wrappers": [
            {
                "kind": script.kind.value,
                "script": script.sha.decode(),
                "wrapper": script.wrapper_sha.decode(),
                "status": sidecar.registry.status_anywhere(script).value,
                "loaded_in": _loaded_in(sidecar, script),
            }
            for script in sidecar.registry.wrapped()
        ],
    }


def scripts_not_understood(sidecar: Sidecar) -> list[Json]:
    """Return the scripts seen that end tasks in a way that is not understood; at most `MAX_SCRIPTS`."""
    return [
        {
            "script": script.sha.decode(),
            "first_line": first_line(script.text),
            "wrapped": "by effect" if script.wrapper else "not at all",
        }
        for script in islice(sidecar.registry.not_understood(), MAX_SCRIPTS)
    ]


def first_line(text: bytes) -> str:
    """Return the first line of a script that says anything, so that a person knows it again."""
    said = (line.strip() for line in text.decode("utf-8", "replace").splitlines())
    line = next((line for line in said if line), "")
    return line if len(line) <= _MAX_LINE else line[: _MAX_LINE - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _loaded_in(sidecar: Sidecar, script: Script) -> list[str]:
    """Return where the wrapper of a script is: the upstream, or nodes of a cluster."""
    if sidecar.nodes is None:
        places = [(str(sidecar.settings.upstream), sidecar.registry)]
    else:
        places = [(str(member.address), member.registry) for member in list(sidecar.nodes.cluster.members.values())]
    found = [(place, registry.as_here(script)) for place, registry in places]
    return [place for place, here in found if here.status is Status.ACTIVE and not here.flushed]


def census(sidecar: Sidecar) -> Json:
    """Return how many tasks of each kind were seen, and the policy in force: what `asynq-ttl report` asks for."""
    seen = sidecar.telemetry.task_counts
    return {
        "since": rfc3339(sidecar.started_ns / 1e9),
        "seconds": (time.time_ns() - sidecar.started_ns) / 1e9,
        "policy": {
            "source": sidecar.in_force.policy.source,
            "mode": sidecar.in_force.mode.value,
            "text": sidecar.in_force.policy.text,
        },
        "kinds": [
            {
                "queue": printable(queue),
                "type": printable(task_type),
                "state": state,
                "own_seconds": own_seconds,
                "tasks": count.tasks,
                "size_bytes": count.size_bytes,
            }
            for (queue, task_type, state, own_seconds), count in seen.kinds.items()
        ],
        "others": {"tasks": seen.others.tasks, "size_bytes": seen.others.size_bytes},
    }


def _rule(rule: Rule) -> Json:
    said: Json = {
        "name": rule.name,
        "queue": [glob.text for glob in rule.queues],
        "type": [glob.text for glob in rule.types],
    }
    for state, retention in (("archived", rule.archived), ("completed", rule.completed), ("done", rule.done)):
        if retention is not None:
            said[state] = retention.text
    if rule.archived_max is not None:
        said["max"] = rule.archived_max
    return said


def _summed(counts: Counter[tuple[str, str, str, str, str]] | Counter[tuple[str, str]], position: int) -> Counter[str]:
    """Return what is counted by one of its labels."""
    summed: Counter[str] = Counter()
    for labels, count in counts.items():
        summed[printable(labels[position])] += count
    return summed


def _quantiles(values: Iterable[float]) -> Json:
    """Return the median, the 99th percentile and the largest of the latest measurements; nothing if there are none."""
    ordered = sorted(values)
    if not ordered:
        return {}
    last = len(ordered) - 1
    return {
        "p50": round(ordered[last // 2], 1),
        "p99": round(ordered[int(last * 0.99)], 1),
        "max": round(ordered[-1], 1),
        "measurements": len(ordered),
    }
