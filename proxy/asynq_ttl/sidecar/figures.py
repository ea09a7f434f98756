"""The metrics that are read from the parts of a sidecar when somebody collects them.

What counts decisions, sweeps and latency is declared by `telemetry`; here is what only the running process knows. It
is read on other threads: nothing here changes anything.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from asynq_ttl.relay.relay import Relay
from asynq_ttl.rewriting.registry import ScriptRegistry
from asynq_ttl.sidecar.background import Background
from asynq_ttl.sidecar.policy_in_force import PolicyInForce
from asynq_ttl.sweep.handover import Handover
from asynq_ttl.sweep.sweeper import Sweeper
from asynq_ttl.telemetry.metrics import Metrics
from asynq_ttl.upstream.sentinels import Sentinels


def register_traffic(metrics: Metrics, relay: Relay) -> None:
    """Declare what the clients' connections are and have been."""
    counter, gauge = metrics.counter, metrics.gauge
    counter("asynq_ttl.commands", "Commands forwarded.", lambda: relay.commands)
    counter("asynq_ttl.connections.accepted", "Client connections accepted.", lambda: relay.accepted)
    counter("asynq_ttl.connections.refused", "Client connections refused.", lambda: relay.refused)
    counter("asynq_ttl.bytes.downstream", "Bytes read from clients.", lambda: relay.traffic.bytes_from_clients)
    counter("asynq_ttl.bytes.upstream", "Bytes read from Redis.", lambda: relay.traffic.bytes_from_redis)
    gauge("asynq_ttl.connections.open", "Client connections open.", lambda: len(relay.connections))


def register_background(metrics: Metrics, background: Background) -> None:
    """Declare what has gone wrong beside serving clients."""
    metrics.counter(
        "asynq_ttl.background.failures",
        "Background tasks that raised and were begun again.",
        lambda: background.failures,
        ("task",),
    )


def register_upstream(metrics: Metrics, problem: Callable[[], str], sentinels: Sentinels | None) -> None:
    """Declare how Redis is, and how its Sentinels are, where there are any."""
    metrics.gauge("asynq_ttl.upstream.up", "1 if Redis answers.", lambda: int(not problem()))
    metrics.counter(
        "asynq_ttl.upstream.switches", "Changes of the master.", lambda: sentinels.switches if sentinels else 0
    )
    metrics.gauge(
        "asynq_ttl.upstream.sentinels.away",
        "Sentinels that do not help to find the master.",
        lambda: sentinels.away if sentinels else 0,
    )


def register_handover(metrics: Metrics, handover: Handover | None) -> None:
    """Declare whether the sink takes what is handed over, where there is one."""
    metrics.counter(
        "asynq_ttl.sink.failures", "How often the sink has failed.", lambda: handover.failures if handover else 0
    )
    metrics.gauge(
        "asynq_ttl.sink.failing",
        "1 if the sink did not take the latest tasks.",
        lambda: int(bool(handover and handover.problem)),
    )


def register_policy(
    metrics: Metrics, in_force: PolicyInForce, registry: ScriptRegistry, sweepers: Callable[[], Sequence[Sweeper]]
) -> None:
    """Declare which policy is in force, and what carries it out."""
    gauge = metrics.gauge
    gauge("asynq_ttl.paused", "1 while rewriting is paused.", lambda: int(in_force.paused))
    gauge(
        "asynq_ttl.scripts.wrappers",
        "Wrappers by status.",
        lambda: Counter(registry.status_anywhere(script).value for script in registry.wrapped()),
        ("status",),
    )
    gauge(
        "asynq_ttl.policy.info",
        "1, with the policy in force as labels.",
        lambda: {(in_force.policy.digest or "built-in", in_force.policy.mode.value): 1},
        ("digest", "asynq_ttl.mode"),
    )
    gauge(
        "asynq_ttl.policy.refused",
        "1 if the policy file was refused when it was last read.",
        lambda: int(bool(in_force.last_reload.faults)),
    )
    metrics.counter(
        "asynq_ttl.sweep.failures",
        "What Redis refused the sweeper at one place, while the rest was swept.",
        lambda: sum((sweeper.failures.refusals for sweeper in sweepers()), Counter()),
        ("database",),
    )
    gauge(
        "asynq_ttl.sweep.behind",
        "1 if the last round of the sweeper left due tasks to the next one.",
        lambda: int(any(sweeper.behind for sweeper in sweepers())),
    )
