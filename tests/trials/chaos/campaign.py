"""One campaign: start everything, let it run while things are killed, let it settle, collect the evidence.

    feeder, worker, operator -> sidecar-1 -\
                                            Redis (append-only, nothing acknowledged is ever lost)
    feeder, worker, operator -> sidecar-2 -/

Both sidecars work on the same queues. One more queue has keys of the wrong type at its places, and one of the others
is taken from the list of queues again and again. Some ended tasks are held, and of those some released. What is killed
is each sidecar and Redis, at random, now and then several at once. Asynq's processes are not: what their handlers say
is part of the evidence.

With a cluster instead of Redis, whose masters are killed, fail over, and give slots to each other, the clients of the
one side are cluster clients, at a port of sidecar-1 for each node, and those of the other plain ones, at one port of
sidecar-2. The keys of the wrong type and the list of queues are at some of its masters.
"""

import json
import re
import tempfile
import threading
import time
from collections import Counter, defaultdict
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from redis import Redis
from redis.exceptions import RedisError

from asynq_ttl.demo.harness import build_harness
from support.cluster import port_range
from support.servers import Sidecar, wait_until
from trials.chaos import census, history
from trials.chaos.census import Census
from trials.chaos.cluster_trial import CLUSTER_WARNINGS
from trials.chaos.durable_cluster import DurableCluster
from trials.chaos.holder import Holder
from trials.chaos.killer import SERVERS, Durable, DurableServer, Killer
from trials.chaos.policy import GRACE_SECONDS, LOCK_SECONDS, POLICY, QUEUES, SWEEP_SECONDS, TTL_SECONDS
from trials.chaos.saboteur import BROKEN, Saboteur
from trials.chaos.traffic import Feeder, Operator, Program, Worker
from trials.chaos.verdict import Evidence, Look, judge

# What a sidecar may say when Redis, or it itself, is killed, and of what is sabotaged.
_EXPECTED_WARNINGS = [
    *(r"upstream \S+ is down", "sweeping failed", "cannot load a wrapper into", "limit of open files"),
    rf"\w+ of queue {BROKEN} in database 0 cannot be swept",
]
# A task whose worker lost it comes back after its lease (30 s), Asynq's allowance (30 s) and the pause of the
# recoverer (60 s).
_SETTLE_SECONDS = 240
_PATIENCE_SECONDS = 30
_LOOK_SECONDS = 0.5
_FAULTS_SHOWN = 10
# Each of them counts twice: by its hash and by its index.
_FLOOD = 2000
# Writes Redis's own time: what a client had sent would be late by as long as Redis was held up.
_TICK = """
local now = redis.call('TIME')
redis.call('SET', KEYS[1], string.format('%d%03d', now[1], math.floor(now[2] / 1000)))
"""
# Which of a cluster's ports a sidecar has: some more than nodes.
_CLUSTER_PORTS = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """What a campaign is to be.

    Attributes:
        seconds: how long things are killed.
        seed: decides about all that is random, but for what time decides.
        server: `redis` or `valkey`.
        rate: tasks per second.
        pause_seconds: the mean time between two kills.
        hasten: whether leases are aged when the chaos is over, instead of waiting the minute until they have aged.
        folder: where everything is kept.
        cluster: whether there is a cluster, not one Redis.
    """

    seconds: float
    seed: int
    server: str
    rate: float
    pause_seconds: float
    hasten: bool
    folder: Path
    cluster: bool = False


class Watch(threading.Thread):
    """Writes the time into Redis and looks at the keyspace, as long as there is a Redis.

    Args:
        server: the Redis.
    """

    def __init__(self, server: Durable) -> None:
        super().__init__(name="watch", daemon=True)
        self.looks: list[Look] = []
        self.tasks_seen = 0
        self.unfinished: Counter[str] = Counter()
        """By queue, what had not ended at the last look."""
        self._server = server
        self._over = threading.Event()

    def run(self) -> None:
        """Watch until told to stop."""
        turn = 0
        while not self._over.wait(0.1):
            turn += 1
            for queue, key in self._server.clocks.items():
                with suppress(RedisError, OSError):
                    self._server.client(queue).eval(_TICK, 1, key)
            if turn % 10 == 0:
                for queue in QUEUES:
                    with suppress(RedisError, OSError), self._server.steady(queue) as steady:
                        if steady:
                            self.look(queue)

    def look(self, queue: str) -> None:
        """Look at a queue once."""
        (seen,) = census.take(self._server.client(queue), (queue,))
        self.looks.append(Look(round(time.time() * 1000), tuple(seen.faults())))
        self.tasks_seen += len(seen.tasks)
        self.unfinished[queue] = seen.unfinished

    def flooded(self) -> bool:
        """Say whether more tasks wait than a slow machine works off in the time that it has at the end."""
        return self.unfinished.total() > _FLOOD

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self.join()


class Campaign:
    """A campaign from its start to the evidence.

    Args:
        plan: what it is to be.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        kind = DurableCluster if plan.cluster else DurableServer
        self.server: Durable = kind(plan.server, plan.folder / "server")
        self.sidecars: dict[str, Sidecar] = {}
        self.feeders: list[Feeder] = []
        self.operators: list[Operator] = []
        self.workers: list[Worker] = []
        self.outcomes: dict[str, set[str]] = defaultdict(set)
        self.seconds = 0.0
        self.watch = Watch(self.server)
        self.saboteur = Saboteur(self.server)
        self.holder = Holder(self.server, plan.seed)
        self._program = build_harness()

    def run(self) -> Evidence:
        """Run it, and return the evidence. Everything it started has ended then."""
        began = time.monotonic()
        with ExitStack() as stack:
            self.server.start()
            stack.callback(self.server.end)
            for number in (1, 2):
                self.sidecars[f"sidecar-{number}"] = stack.enter_context(self._sidecar(f"sidecar-{number}"))
            self.killer = Killer(self.server, self.sidecars, pause_seconds=self.plan.pause_seconds, seed=self.plan.seed)
            self.watch.start()
            stack.callback(self.watch.stop)
            self._start_traffic(stack)
            self.killer.start()
            self.saboteur.start()
            self.holder.start()
            time.sleep(self.plan.seconds)
            self.killer.stop()
            self.saboteur.stop()
            self.holder.stop()
            self._settle()
            self._await_sweep()
            swept = self._census()
            time.sleep(TTL_SECONDS + GRACE_SECONDS + 2)
            self._await_sweep()
            over = self._census()
            for worker in self.workers:
                worker.stop()
            self._collect_outcomes()
            written = self.server.history()
        self.seconds = time.monotonic() - began
        return Evidence(
            accepted={task: queue for feeder in self.feeders for task, queue in feeder.accepted.items()},
            refusals=[error for feeder in self.feeders for error in feeder.refusals],
            outcomes=self.outcomes,
            operations=[operation for operator in self.operators for operation in operator.done],
            kill_ms=[round(at * 1000) for at in self.killer.times],
            history=written,
            looks=self.watch.looks,
            swept=swept,
            over=over,
            held=self.holder.kept,
            times=sum((feeder.times for feeder in self.feeders), Counter()),
        )

    def warnings(self) -> list[str]:
        """Return what the sidecars warned of that has nothing to do with a kill."""
        return [line for sidecar in self.sidecars.values() for line in sidecar.unexpected_warnings()]

    def _sidecar(self, name: str) -> Sidecar:
        options = {"sweep_interval": str(SWEEP_SECONDS)}
        if self.plan.cluster:
            first, last = port_range(_CLUSTER_PORTS)
            options["cluster_ports"] = f"{first}-{last}"
        sidecar = Sidecar(self.plan.folder / name, self.server.url, POLICY, options)
        sidecar.expected_warnings += [*_EXPECTED_WARNINGS, *(CLUSTER_WARNINGS if self.plan.cluster else ())]
        return sidecar

    def _start_traffic(self, stack: ExitStack) -> None:
        for number in range(1, len(self.sidecars) + 1):
            seed = self.plan.seed * 10 + number
            where = self._where(number)
            enqueue = Program(self._program, self.plan.folder, "enqueue", *where, "-parallel", "6")
            inspect = Program(self._program, self.plan.folder, "inspect", *where)
            stack.callback(enqueue.end)
            stack.callback(inspect.end)
            self.workers.append(Worker(self._program, self.plan.folder, *where))
            stack.callback(self.workers[-1].stop)
            self.feeders.append(
                Feeder(enqueue, str(number), self.plan.rate / len(self.sidecars), seed, self.watch.flooded)
            )
            self.operators.append(Operator(inspect, seed, self.server.steady))
        for thread in (*self.feeders, *self.operators):
            thread.start()

    def _where(self, number: int) -> tuple[str, ...]:
        """Return the options by which the clients of one side connect."""
        address = self.sidecars[f"sidecar-{number}"].address
        return ("-redis", address, *(("-cluster",) if self.plan.cluster and number == 1 else ()))

    def _census(self) -> list[Census]:
        return [each for queue in QUEUES for each in census.take(self.server.client(queue), (queue,))]

    def _settle(self) -> None:
        """Stop the load, and wait until every task has come to an end."""
        for operator in self.operators:
            operator.stop()
        for feeder in self.feeders:
            feeder.stop()
        if self.plan.hasten:
            for worker in self.workers:
                worker.stop()
            self._collect_outcomes()
            for queue in QUEUES:
                lease, client = f"asynq:{{{queue}}}:lease", self.server.client(queue)
                members: Any = client.zrange(lease, 0, -1)
                for member in members:
                    client.zadd(lease, {member: time.time() - 60}, xx=True)
            # A worker looks for expired leases as it starts.
            self.workers = [Worker(self._program, self.plan.folder, *self._where(number)) for number in (1, 2)]
        seconds = _PATIENCE_SECONDS if self.plan.hasten else _SETTLE_SECONDS
        # What does not settle is for the verdict to tell.
        with suppress(AssertionError):
            wait_until(self._settled, "it does not settle", seconds)

    def _settled(self) -> bool:
        time.sleep(_LOOK_SECONDS)  # a look takes Redis as long as there are tasks
        return not sum(one.unfinished for one in self._census())

    def _collect_outcomes(self) -> None:
        for worker in self.workers:
            for task_id, outcomes in worker.ends().items():
                self.outcomes[task_id] |= outcomes

    def _await_sweep(self) -> None:
        """Wait until sweeps of all queues that began from now on are over: then second ones begin."""
        for queue in QUEUES:
            for _ in range(2):
                _await_round(self.server.client(queue))


def _await_round(client: Redis) -> None:
    """Wait until a sweep begins: that is when its lock's time to live grows."""
    last_ms = LOCK_SECONDS * 10_000

    def grown() -> bool:
        nonlocal last_ms
        locks: Any = client.keys(f"{history.LOCK_KEY.decode()}*")
        left_ms = max((client.pttl(lock) for lock in locks), default=0)
        grew: bool = left_ms > last_ms
        last_ms = left_ms
        return grew

    wait_until(grown, "nobody sweeps", LOCK_SECONDS + _PATIENCE_SECONDS)


def run(plan: Plan) -> dict[str, Any]:
    """Run a campaign and return the report; `verdict` is `ok`, or `broken` where anything went wrong."""
    campaign = Campaign(plan)
    evidence = campaign.run()
    verdict = judge(evidence)
    warnings = campaign.warnings()
    operations = Counter(operation.op for operation in evidence.operations)
    broken = bool(verdict.faults or warnings)
    return {
        "server": plan.server,
        "cluster": plan.cluster,
        "seed": plan.seed,
        "seconds": round(campaign.seconds),
        "kills": dict(campaign.killer.kills),
        "sabotages": campaign.saboteur.times,
        "holds": {"held": campaign.holder.held, "released": campaign.holder.released},
        "kept_without_retention": evidence.history.kept,
        "tasks": {"accepted": len(evidence.accepted), **dict(verdict.ends)},
        "replaced": evidence.history.replaced,
        "conflicts": sum(feeder.conflicts for feeder in campaign.feeders),
        "enqueues_refused": dict(Counter(_kind(error) for error in evidence.refusals)),
        "enqueues_unanswered": sum(feeder.outstanding for feeder in campaign.feeders),
        "operations": dict(operations),
        "operations_failed": dict(Counter(_kind(one.error) for one in evidence.operations if one.error)),
        "steps_of_redis": evidence.history.steps,
        "sweeps": len(evidence.history.rounds),
        "looks": len(evidence.looks),
        "tasks_seen": campaign.watch.tasks_seen,
        "ghosts": dict(verdict.ghosts),
        "warnings": warnings[:_FAULTS_SHOWN],
        "faults": {
            kind: [asdict(fault) for fault in verdict.faults if fault.kind == kind][:_FAULTS_SHOWN]
            for kind in sorted({fault.kind for fault in verdict.faults})
        },
        "faults_by_kind": dict(Counter(fault.kind for fault in verdict.faults)),
        "verdict": "broken" if broken else "ok",
    }


def _kind(error: str) -> str:
    """Return an error's text without what sets it apart from its like: IDs, ports."""
    return re.sub(r"id=\S+", "id=*", re.sub(r":\d+", ":*", error))[:120]


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="How long to kill.")
@click.option("--seed", type=int, default=1, show_default=True, help="Makes the choices repeatable.")
@click.option("--server", type=click.Choice(SERVERS), default="redis", show_default=True, help="What to run against.")
@click.option("--cluster", is_flag=True, help="A cluster of three masters and three replicas, not one Redis.")
@click.option("--rate", type=float, default=120.0, show_default=True, help="Tasks enqueued per second.")
@click.option("--pause", type=float, default=8.0, show_default=True, help="Mean seconds between two kills.")
@click.option("--hasten", is_flag=True, help="Age the leases at the end instead of waiting for them.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep logs and files in this new folder.")
def main(
    *,
    minutes: float,
    seed: int,
    server: str,
    cluster: bool,
    rate: float,
    pause: float,
    hasten: bool,
    folder: Path | None,
) -> None:
    """Kill sidecars and Redis under a real Asynq load and prove that nothing went wrong."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        if folder is not None:
            folder.mkdir(parents=True)
        report = run(Plan(minutes * 60, seed, server, rate, pause, hasten, folder or Path(temporary), cluster))
    click.echo(json.dumps(report, indent=2))
    raise SystemExit(report["verdict"] != "ok")
