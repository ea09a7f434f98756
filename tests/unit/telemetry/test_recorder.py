"""Everything that is noted is counted, kept, traced and logged."""

import logging

import pytest

from asynq_ttl.events import FailOpen
from asynq_ttl.rewriting.registry import ScriptRegistry
from asynq_ttl.telemetry.decisions import MAX_DECISION_SERIES
from asynq_ttl.telemetry.recent import EntryFilter
from asynq_ttl.telemetry.recorder import Telemetry
from support.recorded import ARCHIVE_SCRIPT, START, UPSTREAM, activated, adopted, failed_open, outcome, sidecar, swept
from support.small_scripts import COMPLETE

KEYS = (b"asynq:{mail}:t:id-1", b"asynq:{mail}:active")


def noting() -> Telemetry:
    """Return one that exports nothing."""
    return Telemetry(UPSTREAM, {})


def test_decisions_are_counted_and_kept() -> None:
    """By queue, state, rule, action and mode; among the tasks only if Redis did not refuse."""
    noted = noting()
    noted.decided(outcome())
    noted.decided(outcome(enforced=False))
    noted.decided(outcome(b"-NOT FOUND"))
    assert noted.decisions == {
        ("mail", "archived", "default", "ttl", "enforce"): 2,
        ("mail", "archived", "default", "ttl", "shadow"): 1,
    }
    assert [count.tasks for count in noted.task_counts.kinds.values()] == [2]
    assert len(noted.recent.latest(EntryFilter())) == 3


def test_no_name_can_grow_the_metrics() -> None:
    """Past the limit queues and rules are counted together; known ones go on."""
    noted = noting()
    for number in range(MAX_DECISION_SERIES + 100):
        noted.decided(outcome(queue=f"q{number}"))
        noted.swept(swept("a", queue=f"q{number}"))
        noted.repaired(f"q{number}", 0, 1)
        noted.failed_open(failed_open(FailOpen.SHAPE, "x", ARCHIVE_SCRIPT, f"q{number}"))
    noted.decided(outcome(queue="q0"))
    assert len(noted.decisions) == MAX_DECISION_SERIES + 1
    assert noted.decisions["other", "archived", "other", "ttl", "enforce"] == 100
    assert noted.decisions["q0", "archived", "default", "ttl", "enforce"] == 2
    assert len(noted.sweeps_due) == MAX_DECISION_SERIES + 1
    assert noted.sweeps_due["other"] == noted.sweeps_ghosts["other"] == 100
    assert len(noted.fail_opens) == MAX_DECISION_SERIES + 1
    assert noted.fail_opens["shape", "other"] == 100


def test_a_foreign_prefix_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each of so many; all are counted."""
    noted = noting()
    for number in (*range(30), *range(30)):
        noted.failed_open(failed_open(FailOpen.PREFIX, f"its keys begin with p{number}:{{", ARCHIVE_SCRIPT))
    assert noted.fail_opens == {("prefix", ""): 60}
    assert len(caplog.messages) == len(set(caplog.messages)) == 20
    assert caplog.messages[0].startswith("failed open (prefix): ")


def test_a_fail_open_names_queue_and_task(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted each time, kept each time, and logged at times, with the queue."""
    noted = noting()
    for _ in range(3):
        noted.failed_open(failed_open(FailOpen.MESSAGE, "truncated", ARCHIVE_SCRIPT, "mail", "id-1"))
    noted.failed_open(failed_open(FailOpen.INTERNAL, "ValueError: x"))
    assert noted.fail_opens == {("message", "mail"): 3, ("internal", ""): 1}
    assert [entry.get("id") for entry in noted.recent.latest(EntryFilter())] == [None, "id-1", "id-1", "id-1"]
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "failed open (message)",
        "failed open (internal)",
    ]


def test_warnings_are_held_back_by_script(caplog: pytest.LogCaptureFixture) -> None:
    """One script that fails all the time hides no other one."""
    noted = noting()
    scripts = [ARCHIVE_SCRIPT, ScriptRegistry().learn(COMPLETE)]
    for script in scripts * 3:
        noted.failed_open(failed_open(FailOpen.MESSAGE, "truncated", script, "mail"))
    assert len(caplog.messages) == 2
    for script, message in zip(scripts, caplog.messages, strict=True):
        assert script.sha.decode() in message


def test_activations(caplog: pytest.LogCaptureFixture) -> None:
    """Loaded, not loaded, refused for good."""
    caplog.set_level(logging.INFO, "asynq_ttl")
    noted = noting()
    script = ScriptRegistry().learn(COMPLETE)
    noted.activated(activated(script))
    noted.activated(activated(script, "timed out"))
    noted.activated(activated(script, "error compiling", refused=True))
    assert noted.activations == {"ok": 1, "error": 2}
    assert noted.unwrappable == 1
    assert "is wrapped as" in caplog.messages[0]
    assert caplog.messages[1] == "cannot load a wrapper into redis://127.0.0.1:6379/0: timed out"
    assert caplog.messages[2].endswith("stays unwrapped, no TTL is set: error compiling")


def test_reloads_and_what_operators_do() -> None:
    """Each is an entry."""
    noted = noting()
    noted.reloaded("abc", "enforce", START, "")
    noted.reloaded("abc", "enforce", START, "line 3")
    noted.happened("pause", "mode shadow is in force")
    assert noted.reloads == {"ok": 1, "error": 1}
    assert [entry["kind"] for entry in noted.recent.latest(EntryFilter())] == ["pause", "reload", "reload"]


def test_sweeps() -> None:
    """Rounds, what they removed, and when the last one went well."""
    noted = noting()
    noted.sweep_ended(0.5, "denied")
    assert noted.swept_at == 0
    noted.sweep_ended(0.25, "")
    noted.swept(swept("a", "b", ghosts=1))
    noted.sweep_ended(0.25, "", 3)
    assert noted.sweep_rounds == {"ok": 1, "partial": 1, "error": 1}
    assert (noted.sweep_seconds, noted.swept_at > 0) == (1, True)
    assert (noted.sweeps_due["mail"], noted.sweeps_ghosts["mail"]) == (2, 1)


def test_adoptions() -> None:
    """They are counted, kept and traced."""
    noted = noting()
    noted.adopted(adopted("a", "b"))
    noted.adopted(adopted("c", enforced=False))
    assert noted.adoptions.tasks == {
        ("mail", "archived", "default", "enforce"): 2,
        ("mail", "archived", "default", "shadow"): 1,
    }
    assert [entry["kind"] for entry in noted.recent.latest(EntryFilter())] == ["adoption", "adoption"]


def test_measurements() -> None:
    """They are in the histograms, and the latest ones are kept."""
    noted = Telemetry(UPSTREAM, {}, pulled=True)
    noted.measured(25_000, "command")
    noted.measured(15_000, "reply")
    noted.loop_late(0.001)
    assert {name: list(values) for name, values in noted.latencies.items()} == {
        "command": [25.0],
        "reply": [15.0],
        "loop": [1000.0],
    }
    text = noted.metrics.text("")[0].decode()
    assert 'asynq_ttl_latency_seconds_bucket{direction="command",le="3e-05"} 1.0' in text
    assert "asynq_ttl_loop_lag_seconds_sum 0.001" in text
    assert 'asynq_ttl_latency_seconds_sum{direction="command"} 2.5e-05' in text
    noted.shutdown()


@pytest.mark.parametrize(("ratio", "names_one"), [("1", True), ("0", False)])
def test_what_is_measured_names_the_latest_span_of_a_decision(ratio: str, names_one: bool) -> None:
    """That which the entry names; no span of anything else, and none that is not sampled."""
    sampler = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio}
    noted = Telemetry(UPSTREAM, {"OTEL_TRACES_EXPORTER": "console"} | sampler, pulled=True)
    assert noted.latest_span is None
    noted.decided(outcome())
    noted.swept(swept("a"))
    noted.measured(10_000_000_000, "reply", noted.latest_span)
    text = noted.metrics.text("application/openmetrics-text; version=1.0.0")[0].decode()
    (_, decided) = noted.recent.latest(EntryFilter())
    named = [line for line in text.splitlines() if "trace_id" in line]
    assert [line.partition(" ")[0] for line in named] == names_one * [
        'asynq_ttl_latency_seconds_bucket{direction="reply",le="+Inf"}'
    ]
    assert all(f'trace_id="{decided["trace_id"]}"' in line for line in named)
    noted.shutdown()


def test_times_are_in_seconds_in_both_formats() -> None:
    """Seconds are the base unit of time of Prometheus and OpenTelemetry; the buckets begin at 5 microseconds."""
    noted = Telemetry(UPSTREAM, {}, pulled=True)
    noted.measured(4_000, "command")
    for accept in ("", "application/openmetrics-text"):
        text = noted.metrics.text(accept)[0].decode()
        assert 'asynq_ttl_latency_seconds_bucket{direction="command",le="5e-06"} 1.0' in text
    assert {instrument.unit for instrument in noted.metrics.declared.values()} <= {"", "s", "By"}
    noted.shutdown()


def test_decisions_are_log_lines_while_debugging(caplog: pytest.LogCaptureFixture) -> None:
    """One line for each, with rule and action; none otherwise."""
    noted = noting()
    noted.decided(outcome())
    assert not caplog.messages
    caplog.set_level(logging.DEBUG, "asynq_ttl")
    noted.decided(outcome())
    assert caplog.messages == ["archive in queue mail: rule default, ttl (enforce)"]


def test_every_metric_can_be_collected() -> None:
    """A sidecar that has done nothing yet has all of them that have a value."""
    idle = sidecar(pulled=True)
    text = idle.telemetry.metrics.text("")[0].decode()
    assert "asynq_ttl_connections_open 0.0" in text
    assert "asynq_ttl_upstream_up 0.0" in text
    assert 'asynq_ttl_policy_info{asynq_ttl_mode="enforce",digest="built-in"} 1.0' in text
    idle.telemetry.shutdown()
