"""Takes note of what the sidecar does: counts it, keeps it for whoever looks, makes spans of it, warns.

It is the observer of all sessions, of the sweeper and of the control connection, and the one place where each of
them is turned into metrics, entries, spans and log lines. It is called on the data path: it neither
blocks nor raises, and counts in plain integers that are read when somebody collects them.

Invariant: no label, and nothing else that is kept, grows with what clients send: past `MAX_DECISION_SERIES` sets of
labels they are counted together.
"""

import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence

from opentelemetry.sdk.resources import Resource

from asynq_ttl.events import (
    Activated,
    Adopted,
    Enqueue,
    FailedOpen,
    FailOpen,
    Happened,
    Outcome,
    SpanIds,
    Swept,
)
from asynq_ttl.net.address import Upstream
from asynq_ttl.telemetry.adoptions import ADOPTED, ADOPTION_LABELS, Adoptions
from asynq_ttl.telemetry.advice import advice_on, named
from asynq_ttl.telemetry.bulk_operations import BULK_LABELS, BULK_TASKS, BulkOperations, OpenRedis
from asynq_ttl.telemetry.cluster_signs import ClusterSigns, Sign
from asynq_ttl.telemetry.decisions import (
    DECISION_LABELS,
    MAX_DECISION_SERIES,
    OVERFLOW,
    DecisionKey,
    Decisions,
    ObservedNode,
    redis_of,
    server_of,
)
from asynq_ttl.telemetry.environment import made, tell_unusable, usable
from asynq_ttl.telemetry.exporters import Outlet, metric_readers, resource_of, span_outlets
from asynq_ttl.telemetry.logs import Repetition
from asynq_ttl.telemetry.metrics import Metrics
from asynq_ttl.telemetry.recent import Recent
from asynq_ttl.telemetry.refused_enqueues import RefusedEnqueues
from asynq_ttl.telemetry.spans import Spans
from asynq_ttl.telemetry.task_counts import TaskCounts

_log = logging.getLogger("asynq_ttl")

# Upper bounds, in seconds, of the buckets of the sidecar's own latency: from 5 microseconds up.
LATENCY_BOUNDS = (
    *(5e-6, 10e-6, 15e-6, 20e-6, 30e-6, 40e-6, 60e-6, 80e-6, 100e-6, 150e-6, 200e-6, 300e-6, 500e-6),
    *(0.001, 0.0025, 0.005, 0.01, 0.05, 0.25),
)

_DUE = "Tasks removed by the sweeper because their time was over."
_GHOSTS = "Index entries dropped because they named no task."
_ROUNDS = "How long the sweeper's rounds took, waiting for Redis included."

_FLUSH_SECONDS = 0.8
# Prefixes of keys that are warned of, each once.
_MAX_PREFIXES = 20
# A minute of them, at twenty a second.
_LATEST_MEASUREMENTS = 1_200


class Telemetry:
    """Counts, keeps, traces and logs. The `Observer` of all sessions; `at` is the node of a cluster where it was done.

    Args:
        upstream: the real Redis, for the spans' attributes.
        environment: where the `OTEL_*` variables are.
        pulled: whether metrics may be asked for in Prometheus's format.
        task_ids: whether task IDs may be in spans and entries.
        open_redis: opens a client of the real Redis, to search for what bulk operations have moved; None for no search.

    Attributes:
        decided: takes note of a decision. It is counted, kept and traced within a moment; before anybody looks.
        fail_opens: commands forwarded untouched although a rule might concern them, by reason and queue.
        unwrappable: scripts that Redis refused to compile.
        activations: wrappers loaded into Redis, by result: ok, error.
        reloads: policy reloads by result: ok, error.
        sweeps_due: tasks the sweeper removed because their time was over, by queue.
        sweeps_ghosts: index entries the sweeper dropped because they named no task, by queue.
        adoptions: tasks that the sweeper gave a TTL, because no command had.
        bulk: what became of tasks that were moved all at once.
        sweep_rounds: rounds of the sweeper by result: ok, partial (something was refused at one place), error.
        sweep_seconds: how long the sweeper's rounds took altogether, waiting for Redis included.
        swept_at: when the last round of the sweeper that came to its end did so, seconds since the epoch; 0 for never.
        latencies: the latest, in microseconds: of chunks of commands, of replies, and how late the event loop was.
    """

    def __init__(
        self,
        upstream: Upstream,
        environment: Mapping[str, str] = os.environ,
        *,
        pulled: bool = False,
        task_ids: bool = True,
        open_redis: OpenRedis | None = None,
    ) -> None:
        self.fail_opens: Counter[tuple[str, str]] = Counter()
        self.unwrappable = 0
        self.activations: Counter[str] = Counter()
        self.reloads: Counter[str] = Counter()
        self.sweeps_due: Counter[str] = Counter()
        self.sweeps_ghosts: Counter[str] = Counter()
        self.sweep_rounds: Counter[str] = Counter()
        self.sweep_seconds = self.swept_at = 0.0
        self.latencies: dict[str, deque[float]] = {
            name: deque(maxlen=_LATEST_MEASUREMENTS) for name in ("command", "reply", "loop")
        }
        self.cluster = ClusterSigns(served=bool(upstream.nodes))
        self.adoptions = Adoptions(MAX_DECISION_SERIES)
        self.recent = Recent(task_ids=task_ids)
        self.bulk = BulkOperations(open_redis, MAX_DECISION_SERIES)
        self._refused = RefusedEnqueues(open_redis)
        self._spans, self.metrics = _outputs(
            environment, lambda resource, outlets: Spans(outlets, resource, upstream, task_ids=task_ids), pulled=pulled
        )
        self._decided = Decisions(self._spans, self.recent, self.bulk)
        self.decided = self._decided.note
        self._repetition = Repetition()
        self._prefixes: set[str] = set()  # of keys, that were warned of
        self._upstream = str(upstream)
        self._declare()
        self._declare_times()

    @property
    def decisions(self) -> Counter[DecisionKey]:
        """Decisions by queue, state, rule, action and mode."""
        self._decided.tell()
        return self._decided.counts

    @property
    def task_counts(self) -> TaskCounts:
        """Tasks by their kinds."""
        self._decided.tell()
        return self._decided.task_counts

    @property
    def spans(self) -> Spans:
        """Makes the spans, those of all decisions so far included."""
        self._decided.tell()
        return self._spans

    def tell(self) -> None:
        """Tell now of all decisions that were noted."""
        self._decided.tell()

    def refused(self, enqueue: Enqueue, outcome: Outcome, at: ObservedNode | None = None) -> None:
        """Find out whether the enqueue would have replaced a task, and tell of it then."""
        self._refused.look(enqueue, outcome, lambda found: self.decided(found, at), redis_of(at))

    def clustered(self, *, redirected: bool) -> None:
        """Count a sign that Redis is a cluster, and warn (at times)."""
        self.cluster.note(Sign.REDIRECT if redirected else Sign.TOPOLOGY)

    def failed_open(self, failure: FailedOpen, at: ObservedNode | None = None) -> None:
        """Count a command that was forwarded untouched, make its span, and warn (at times)."""
        key = (failure.reason.value, failure.queue)
        if key not in self.fail_opens and len(self.fail_opens) >= MAX_DECISION_SERIES:
            key = (failure.reason.value, OVERFLOW)
        self.fail_opens[key] += 1
        trace_id = self.spans.failed_open(failure, server_of(at))
        self.recent.add(failure, trace_id)
        held_back_by = failure.sha
        if failure.reason is FailOpen.PREFIX:
            if failure.detail in self._prefixes or len(self._prefixes) >= _MAX_PREFIXES:
                return
            self._prefixes.add(failure.detail)
            held_back_by = failure.detail
        what, reason, advice = named(failure), failure.reason.value, advice_on(failure.reason)
        self._warn(
            f"{reason} {held_back_by}",
            trace_id,
            f"failed open ({reason}): {what} was forwarded untouched: {failure.detail}; what to do: {advice}",
        )

    def activated(self, activated: Activated, at: ObservedNode | None = None) -> None:
        """Take note of the end of loading a wrapper."""
        kind, sha, error = activated.kind, activated.sha, activated.error
        result = "error" if error else "ok"
        self.activations[result] += 1
        self._activation((activated.end_ns - activated.start_ns) / 1e9, result)
        trace_id = self.spans.activated(activated, server_of(at))
        detail = f"{kind} script {sha[:8]}" + (f": {error}" if error else "")
        self.recent.add(Happened("activation", activated.end_ns, result, detail), trace_id)
        if activated.refused:
            self.unwrappable += 1
            self._warn("compile", trace_id, f"script {sha} ({kind}) stays unwrapped, no TTL is set: {error}")
        elif error:
            where = server_of(at) or self._upstream
            self._warn(f"activation {where}", trace_id, f"cannot load a wrapper into {where}: {error}")
        else:
            _log.info("script %s (%s) is wrapped as %s", sha, kind, activated.wrapper_sha, extra={"trace_id": trace_id})

    def reloaded(self, digest: str, mode: str, start_ns: int, error: str) -> str:
        """Take note of a reload of the policy; `error` is empty if it went well. Returns the trace ID."""
        now = time.time_ns()
        self.reloads["error" if error else "ok"] += 1
        trace_id = self.spans.reloaded(digest, mode, start_ns, now, error)
        detail = error or f"policy {digest} is in force, mode {mode}"
        self.recent.add(Happened("reload", now, "error" if error else "ok", detail), trace_id)
        return trace_id

    def switched(self, before: str, now: str, start_ns: int) -> None:
        """Take note of a change of the master, from when the old one was let go until clients get to the new one."""
        at_ns = time.time_ns()
        trace_id = self.spans.switched(before, start_ns, at_ns)
        self.recent.add(Happened("switch", at_ns, "ok", f"from {before} to {now}"), trace_id)

    def happened(self, kind: str, detail: str) -> None:
        """Take note of something that an operator did: pause, resume, drain, log_level."""
        self.recent.add(Happened(kind, time.time_ns(), "ok", detail), "")
        _log.info("%s: %s", kind, detail)

    def swept(self, page: Swept, at: ObservedNode | None = None) -> None:
        """Count what a page of a sweep removed, keep it, and make its span."""
        queue = page.queue if page.queue in self.sweeps_due or len(self.sweeps_due) < MAX_DECISION_SERIES else OVERFLOW
        self.sweeps_due[queue] += len(page.due)
        self.sweeps_ghosts[queue] += page.ghosts
        self.recent.add(page, self.spans.swept(page, server_of(at)))

    def adopted(self, tasks: Adopted, at: ObservedNode | None = None) -> None:
        """Count tasks that were adopted, keep that, and make its span."""
        self.adoptions.add(tasks)
        self.recent.add(tasks, self.spans.adopted(tasks, server_of(at)))

    def repaired(self, queue: str, persisted: int, dropped: int) -> None:  # noqa: ARG002 - the log has it
        """Count active IDs without a task that the sweeper dropped."""
        queue = queue if queue in self.sweeps_due or len(self.sweeps_due) < MAX_DECISION_SERIES else OVERFLOW
        self.sweeps_ghosts[queue] += dropped

    def sweep_ended(self, seconds: float, error: str, refusals: int = 0) -> None:
        """Count a round of the sweeper."""
        self.sweep_rounds["error" if error else "partial" if refusals else "ok"] += 1
        self.sweep_seconds += seconds
        if not error:
            self.swept_at = time.time()

    @property
    def latest_span(self) -> SpanIds | None:
        """The latest span of a decision; None for none."""
        return self.spans.latest

    def measured(self, nanoseconds: int, direction: str, span: SpanIds | None = None) -> None:
        """Take note of how long the sidecar held a chunk of bytes, `command` or `reply`, and of a span of it."""
        self.latencies[direction].append(nanoseconds / 1000)
        self._latency(nanoseconds / 1e9, direction, span)

    def loop_late(self, seconds: float) -> None:
        """Take note of how late the event loop came to something that was due."""
        self.latencies["loop"].append(seconds * 1e6)
        self._loop(seconds, "")

    async def finish_spans(self) -> None:
        """Wait for the spans that tasks are still searched for; they are made within a second."""
        self.tell()
        await self.bulk.close()
        await self._refused.close()

    def shutdown(self) -> None:
        """Export what is left, within a bound: a collector that does not answer must not hold up the end."""
        self.tell()
        spans = threading.Thread(target=self._spans.shutdown, args=(_FLUSH_SECONDS,))
        spans.start()
        self.metrics.shutdown(_FLUSH_SECONDS)
        spans.join()

    def _declare(self) -> None:
        """Declare the metrics that are counted here."""
        counter = self.metrics.counter
        counter("asynq_ttl.decisions", "Decisions about tasks.", lambda: self._decided.counts, DECISION_LABELS)
        counter(
            "asynq_ttl.fail_open",
            "Commands forwarded untouched although a rule might concern them.",
            lambda: self.fail_opens,
            ("reason", "asynq.queue"),
        )
        counter("asynq_ttl.cluster.signs", "Signs that Redis is a cluster.", lambda: self.cluster.seen, ("sign",))
        counter("asynq_ttl.policy.reloads", "Policy reloads by result.", lambda: self.reloads, ("result",))
        counter("asynq_ttl.scripts.unwrappable", "Scripts Redis refused to compile.", lambda: self.unwrappable)
        counter("asynq_ttl.scripts.activations", "Wrappers loaded into Redis.", lambda: self.activations, ("result",))
        counter("asynq_ttl.sweep.due", _DUE, lambda: self.sweeps_due, ("asynq.queue",))
        counter("asynq_ttl.sweep.ghosts", _GHOSTS, lambda: self.sweeps_ghosts, ("asynq.queue",))
        counter("asynq_ttl.bulk.tasks", BULK_TASKS, lambda: self.bulk.tasks, BULK_LABELS)
        counter("asynq_ttl.adopted", ADOPTED, lambda: self.adoptions.tasks, ADOPTION_LABELS)
        counter("asynq_ttl.sweep.rounds", "Rounds of the sweeper.", lambda: self.sweep_rounds, ("result",))
        counter("asynq_ttl.sweep.seconds", _ROUNDS, lambda: self.sweep_seconds)
        self.metrics.gauge(
            "asynq_ttl.sweep.last", "When the last round that came to its end did so.", lambda: self.swept_at, unit="s"
        )
        counter("asynq_ttl.spans.made", "Spans made.", lambda: self._spans.made)
        counter("asynq_ttl.spans.exported", "Spans exported.", lambda: self._spans.exported, ("result",))
        counter("asynq_ttl.watchers.dropped", "Entries that watchers were too slow for.", lambda: self.recent.dropped)

    def _declare_times(self) -> None:
        """Declare how long things take."""
        histogram, bounds = self.metrics.histogram, LATENCY_BOUNDS
        self._latency = histogram(
            "asynq_ttl.latency", "How long the sidecar held a chunk of bytes.", "s", bounds, "direction"
        )
        self._loop = histogram("asynq_ttl.loop.lag", "How late the event loop came to what was due.", "s", bounds)
        self._activation = histogram(
            "asynq_ttl.scripts.activation", "How long loading a wrapper took.", "s", bounds, "result"
        )

    def _warn(self, kind: str, trace_id: str, message: str) -> None:
        """Log a warning, each kind at most every few seconds; the counters count them all."""
        more = self._repetition.allows(kind)
        if more is not None:
            _log.warning("%s", message + more, extra={"trace_id": trace_id})


def _outputs(
    environment: Mapping[str, str], spans: Callable[[Resource, Sequence[Outlet]], Spans], *, pulled: bool
) -> tuple[Spans, Metrics]:
    """Return what makes spans and what has the metrics, whatever the variables say."""
    tell_unusable(environment)
    with usable(environment) as allowed:
        resource = made("resource attributes", allowed, resource_of)
        return (
            made("traces", allowed, lambda variables: spans(resource, span_outlets(variables, resource))),
            made(
                "pushed metrics",
                allowed,
                lambda variables: Metrics(metric_readers(variables), resource, pulled=pulled),
            ),
        )
