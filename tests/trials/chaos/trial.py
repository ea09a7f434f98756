"""One failover under a real Asynq load, through the sidecar or without it, and the account of every accepted task.

    load -> sidecar -> master, found by three Sentinels; one replica
    load ------------> likewise (`asynq.RedisFailoverClientOpt`)

A strike is one of: `kill`, the master dies and comes back empty, a master until the Sentinels demote it; `hang`, it is
stopped and goes on after the failover with what it had; `ask`, an operator asks for a failover; `coordinate`, for one
that the servers coordinate, which only Valkey 9 can.
"""

import json
import re
import signal
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import redis as redis_py

from asynq_ttl.demo.harness import build_harness
from support.sentinels import MASTER, Setup, Watched, start_watched
from support.servers import Server, Sidecar, wait_until
from trials.chaos import account, census
from trials.chaos.census import Census, Fault

QUEUE = "load"
POLICY = "version: 1\ngrace: 60s\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 1h}}]"
STRIKES = ("kill", "hang", "ask", "coordinate")
WAYS = ("sidecar", "direct")
ONE_PORT = "one-port"
"""The way of a plain client through the sidecar to a cluster."""
WARNINGS = ("is down", "has moved from", "sweeping failed", "cannot load a wrapper", "failed open .activation")

_RATE = 300
_KEPT_SECONDS, _GRACE_SECONDS = 3600, 60
_STRIKE_AFTER = 600
# What Asynq could not settle it tries again every 5 seconds; the first time may be too early.
_SYNC_SECONDS = 11.0
# What a worker has lost comes back after its lease (30 s), Asynq's allowance (30 s) and its recoverer's pause (60 s).
_RECOVERY_SECONDS = 150.0
_HASTENED_SECONDS = 40.0
_EVALS = {"cmdstat_eval", "cmdstat_evalsha", "cmdstat_script|load", "cmdstat_script"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a trial is to be.

    Attributes:
        way: `sidecar` or `direct`; with a cluster also `one-port`.
        strike: one of `STRIKES`.
        tasks: how many are enqueued.
        hasten: whether leases are aged when the load is over. Otherwise they are waited for, and the worker is killed
            just before the master, so that there are some.
        server: `redis` or `valkey`, for the servers and the Sentinels.
        folder: where everything is kept.
    """

    way: str
    strike: str
    tasks: int
    hasten: bool
    server: str
    folder: Path


@dataclass(slots=True)
class Report:
    """What a trial has found.

    Attributes:
        accepted: tasks that producers were told are accepted.
        acknowledged: those of them that the replica had as well.
        lost: not there afterwards although they must be; each is a fault too.
        unreplicated: accepted before the failover, not acknowledged, and not there afterwards.
        active: active tasks when the load was over and nothing was pending.
        repeated: tasks that were run more than once.
        standstill_seconds: the longest time without a new attempt.
        refusals: errors that producers saw.
        errors: the same by their texts.
        places: where the accepted tasks are in the end.
        faults: what must not be.
    """

    accepted: int = 0
    acknowledged: int = 0
    lost: int = 0
    unreplicated: int = 0
    active: int = 0
    repeated: int = 0
    standstill_seconds: float = 0.0
    refusals: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class Trial:
    """A failover from the start of the servers to the account.

    Args:
        plan: what it is to be.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ledger_file = plan.folder / "ledger"
        self.sidecar: Sidecar | None = None
        self._faults: list[Fault] = []
        self._stack = ExitStack()
        self._moved_ms = 0
        self._command: list[str] = []

    def run(self) -> Report:
        """Run it, and return what was found. Everything it started has ended then."""
        with self._stack as stack:
            watched = stack.enter_context(start_watched(self.plan.folder, Setup(kind=self.plan.server)))
            if self.plan.way == "sidecar":
                self.sidecar = self._start_sidecar(watched)
            load = self._start_load(*self._where(watched))
            wait_until(lambda: len(account.read(self.ledger_file).accepted) > _STRIKE_AFTER, "there is no load")
            old = watched.master()
            struck_ms = _now_ms()
            if not self.plan.hasten:
                load = self._crash(load)
            new, returned = self._strike(watched, old)
            with new.client() as client, returned.client() as former:
                self._look(client, over=False)
                active = self._await_idle(client)
                self._look(client, over=False)
                self._await_demotion(former, new)
                self._end(client, load)
                last = self._look(client, over=True)
        return self._report(struck_ms, active, last)

    def _report(self, struck_ms: int, active: int, last: account.Account) -> Report:
        ledger = account.read(self.ledger_file)
        errors = Counter(_kind(error) for _, error in ledger.refusals)
        return Report(
            accepted=len(ledger.accepted),
            acknowledged=sum(each.acknowledged for each in ledger.accepted.values()),
            lost=sum(fault.kind == "lost" for fault in last.faults),
            unreplicated=len(last.unreplicated),
            active=active,
            repeated=ledger.repeated,
            standstill_seconds=ledger.standstill_seconds(struck_ms),
            refusals=len(ledger.refusals),
            errors=dict(errors),
            places=dict(last.places),
            faults=[f"{fault.kind}: {fault.task_id} {fault.detail}" for fault in self._faults],
        )

    def _start_sidecar(self, watched: Watched) -> Sidecar:
        sidecar = self._stack.enter_context(Sidecar(self.plan.folder / "sidecar", watched.url, POLICY, {}))
        sidecar.expected_warnings += WARNINGS
        return sidecar

    def _start_load(self, *where: str) -> "subprocess.Popen[bytes]":
        command = [str(build_harness()), "load", *where, "-queue", QUEUE]
        command += ["-ledger", str(self.ledger_file), "-rate", str(_RATE), "-producers", "4", "-wait", "1"]
        command += [
            "-concurrency",
            "10",
            "-task-time",
            "10ms" if self.plan.hasten else "30ms",
            "-archive-share",
            "0.2",
            "-retain-share",
            "0.3",
        ]
        self._command = [*command, "-retry-delay", "1s", "-give-up", "60s", "-timeout", "8m"]
        return self._work(self.plan.tasks)

    def _crash(self, load: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
        """Kill the worker, so that what it has at hand is nobody's; start another one that enqueues the other tasks."""
        load.kill()
        load.wait()
        accepted = len(account.read(self.ledger_file).accepted)
        return self._work(self.plan.tasks - accepted, "-id-prefix", "again-")

    def _work(self, tasks: int, *options: str) -> "subprocess.Popen[bytes]":
        """Start a worker that enqueues so many tasks besides."""
        with (self.plan.folder / "load.log").open("ab") as log:
            load = subprocess.Popen(
                [*self._command, "-tasks", str(tasks), *options], stdout=subprocess.DEVNULL, stderr=log
            )
        self._stack.callback(_end, load)
        return load

    def _where(self, watched: Watched) -> tuple[str, ...]:
        if self.sidecar is not None:
            return ("-redis", self.sidecar.address)
        return ("-redis", ",".join(f"127.0.0.1:{port}" for port in watched.sentinels), "-master", MASTER)

    def _strike(self, watched: Watched, old: Server) -> tuple[Server, Server]:
        """Make the master fail; return the new one, and the old one as it has come back."""
        if self.plan.strike == "kill":
            old.process.kill()
        elif self.plan.strike == "hang":
            old.process.send_signal(signal.SIGSTOP)
        else:
            coordinated = ("COORDINATED",) if self.plan.strike == "coordinate" else ()
            watched.ask(0, "SENTINEL", "FAILOVER", MASTER, *coordinated)
        wait_until(lambda: watched.master() is not old, "there is no failover", 30)
        self._moved_ms = _now_ms()
        new = watched.master()
        wait_until(lambda: self._followed(new), "the sidecar does not follow", 30)
        if self.plan.strike == "kill":
            old.process.wait()
            return new, self._stack.enter_context(watched.return_of(old))
        if self.plan.strike == "hang":
            old.process.send_signal(signal.SIGCONT)
        return new, old

    def _followed(self, new: Server) -> bool:
        return self.sidecar is None or f"to 127.0.0.1:{new.port}" in self.sidecar.log()

    def _look(self, client: "redis_py.Redis", *, over: bool) -> account.Account:
        # What is accepted while the look is taken may not be in it; what ends meanwhile may.
        accepted = account.read(self.ledger_file).accepted
        seen = self._census(client)
        ledger = account.read(self.ledger_file)
        ledger.accepted = accepted
        found = account.settle(ledger, seen, moved_ms=self._moved_ms, kept=self._kept, grace=_GRACE_SECONDS, over=over)
        self._faults += found.faults
        return found

    def _census(self, client: "redis_py.Redis") -> Census:
        return census.take(client, (QUEUE,))[0]

    def _kept(self, _task_id: str, _state: str) -> int | None:
        """Without the sidecar nobody gives TTLs."""
        return None if self.plan.way == "direct" else _KEPT_SECONDS

    def _await_idle(self, client: "redis_py.Redis") -> int:
        """Wait until all is enqueued and nothing waits; return how many tasks are active a little later."""

        def idle() -> bool:
            ledger = account.read(self.ledger_file)
            waiting = client.llen(f"asynq:{{{QUEUE}}}:pending") + client.zcard(f"asynq:{{{QUEUE}}}:retry")
            return len(ledger.accepted) >= self.plan.tasks and not waiting

        wait_until(idle, "the load does not end", 90)
        wait_until(lambda: not client.llen(f"asynq:{{{QUEUE}}}:active") or self._synced(), "", _SYNC_SECONDS + 5)
        return int(client.llen(f"asynq:{{{QUEUE}}}:active"))

    def _synced(self) -> bool:
        return _now_ms() > self._moved_ms + _SYNC_SECONDS * 1000

    def _await_demotion(self, former: "redis_py.Redis", new: Server) -> None:
        """Wait until the old master is a replica of the new one; see that meanwhile it was asked for nothing."""

        def demoted() -> bool:
            found: Any = former.info("replication")
            return bool(found["role"] == "slave" and found["master_port"] == new.port)

        if self.plan.strike == "kill":
            wait_until(demoted, "the old master is not demoted", 40)
            asked = _EVALS & set(former.info("commandstats"))
            if asked:
                self._faults.append(Fault("old master", QUEUE, "", f"it was asked for {', '.join(sorted(asked))}"))

    def _end(self, client: "redis_py.Redis", load: "subprocess.Popen[bytes]") -> None:
        """Let Asynq's recoverer bring back what is active without a worker, and wait until every task has ended."""
        if self.plan.hasten:
            _end(load)
            lease = f"asynq:{{{QUEUE}}}:lease"
            members: Any = client.zrange(lease, 0, -1)
            for member in members:
                client.zadd(lease, {member: time.time() - 60}, xx=True)
            load = self._work(0)  # a worker looks for expired leases as it starts
        seconds = _HASTENED_SECONDS if self.plan.hasten else _RECOVERY_SECONDS
        wait_until(lambda: not self._census(client).unfinished, "it does not come to an end", seconds)
        _end(load)


def report_of(plan: Plan, kind: type[Trial] = Trial) -> Report:
    """Run a trial; what the sidecar warned of besides is a fault too."""
    trial = kind(plan)
    try:
        report = trial.run()
    except AssertionError as error:
        report = Report(faults=[f"stuck: {error}"])
    if trial.sidecar is not None:
        report.faults += [f"warning: {line}" for line in trial.sidecar.unexpected_warnings()]
    (plan.folder / "report.json").write_text(json.dumps(asdict(report), indent=2) + "\n")
    return report


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Shut a harness down as an operator would."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _now_ms() -> int:
    return round(time.time() * 1000)


def _kind(error: str) -> str:
    """Return an error's text without what sets it apart from its like: ports."""
    return re.sub(r":\d+", ":*", error)[-100:]
