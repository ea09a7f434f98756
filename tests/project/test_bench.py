"""What the benchmarks make of what they measured: ratios, targets, and the output of other programs."""

import shutil
from collections.abc import Callable

import pytest
from commands_load import CommandsLoad, commands_loads, read_benchmark
from comparison import Measurement, Sample, measure, medians, ratio_of_added, ratios
from contestants import MissingProgramError, program
from hot_path import function_table, system_call_table
from instructions import KINDS, collected, feed, relay, route
from redis_instructions import summary
from report import comparison_table, number, target_table
from script_cost import Cost
from targets import TARGETS, Bound, Target

from asynq_ttl.relay.connection import Downstream


def sample(round_: int, contestant: str, load: str = "asynq", **figures: float) -> Sample:
    """Return a sample."""
    return Sample(round_, load, contestant, figures, [])


def test_the_order_rotates_and_each_is_measured_once_in_a_round() -> None:
    """No contestant always comes first."""
    asked: list[str] = []

    def run(load: CommandsLoad, contestant: str) -> Measurement:
        asked.append(contestant)
        return Measurement({"rate": len(asked)})

    load = CommandsLoad(1, 1, 64)
    samples = list(measure(range(3), ["a", "b", "c"], [load], run))  # type: ignore[arg-type] # run takes this load only
    assert asked == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert [each.round for each in samples] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert samples[4] == Sample(1, "c1-p1-64B", "c", {"rate": 5}, [])


def test_ratios_are_taken_within_a_round() -> None:
    """A round in which the machine was slow for both counts as much as any other."""
    samples = [sample(0, "haproxy", rate=100), sample(0, "asynq-ttl", rate=50)]
    samples += [sample(1, "haproxy", rate=10), sample(1, "asynq-ttl", rate=8)]
    samples += [sample(2, "haproxy", rate=100), sample(2, "asynq-ttl", rate=90, peak=1)]
    assert ratios(samples, "asynq", "asynq-ttl", "haproxy") == {"rate": 0.8}
    assert medians(samples, "asynq", "haproxy") == {"rate": 100}
    assert ratios(samples, "asynq", "asynq-ttl", "direct") == {}
    assert medians(samples, "other", "haproxy") == {}


def test_added_latency_is_compared_after_the_direct_one_is_taken_off() -> None:
    """A round in which the reference adds nothing has nothing to compare with."""
    samples = [sample(0, "direct", p50=10), sample(0, "haproxy", p50=30), sample(0, "asynq-ttl", p50=35)]
    samples += [sample(1, "direct", p50=10), sample(1, "haproxy", p50=9), sample(1, "asynq-ttl", p50=35)]
    assert ratio_of_added(samples, "asynq", "p50", "asynq-ttl", "haproxy") == 1.25
    assert ratio_of_added(samples, "asynq", "p99", "asynq-ttl", "haproxy") is None


def test_a_target_is_met_on_its_side_of_the_bound() -> None:
    """The bound itself is within."""
    least = Target("rate", Bound.AT_LEAST, 1.0, lambda *_: None)
    most = Target("rate", Bound.AT_MOST, 1.0, lambda *_: None)
    assert [least.met(value) for value in (0.9, 1.0, 1.1)] == [False, True, True]
    assert [most.met(value) for value in (0.9, 1.0, 1.1)] == [True, True, False]


def test_the_table_of_targets_tells_met_missed_and_not_measured() -> None:
    """Each target has its line."""
    samples = [sample(0, "haproxy", tasks_per_second=100, proxy_cpu_us_per_command=20)]
    samples += [sample(0, "asynq-ttl-traced", tasks_per_second=110, proxy_cpu_us_per_command=30)]
    costs = [Cost("complete", "markAsCompleteCmd", 10, 11, 1.1, 9), Cost("dequeue", "dequeueCmd", 10, 13, 1.3, 9)]
    lines = target_table(samples, costs).splitlines()[2:]
    assert len(lines) == len(TARGETS)
    assert [line.split("|")[3:5] for line in lines if "not measured" not in line] == [
        [" 1.1 ", " met "],
        [" 1.5 ", " **missed** "],
        [" 1.1 ", " met "],
        [" 1.3 ", " **missed** "],
    ]


def test_the_table_has_a_median_and_both_ratios_in_a_cell() -> None:
    """A figure that a contestant does not have leaves its cell empty."""
    samples = [sample(0, "direct", rate=4000), sample(0, "haproxy", rate=2000, cpu=3)]
    assert comparison_table(samples).splitlines()[2:] == [
        "| asynq | rate | 4,000 (2.00 1.00) | 2,000 (1.00 0.50) |",
        "| asynq | cpu |  | 3 (1.00 -) |",
    ]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.01234, "0.0123"), (12.34, "12.3"), (999.7, "1,000"), (12345.6, "12,346")]
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    """Large ones are whole."""
    assert number(value) == shown


def test_loads_leave_out_what_does_not_fit_into_memory() -> None:
    """A thousand connections with 1 MB each are too much, twenty are not."""
    names = [load.name for load in commands_loads()]
    assert {"c1-p1-64B", "c20-p1-1M", "c1000-p16-4K"} <= set(names)
    assert "c1000-p1-1M" not in names


def test_the_output_of_redis_benchmark_is_read() -> None:
    """Rate, percentiles and distribution."""
    output = """====== GET ======
Latency by percentile distribution:
0.000% <= 0.079 milliseconds (cumulative count 5)
50.000% <= 0.247 milliseconds (cumulative count 10424)
99.902% <= 0.871 milliseconds (cumulative count 19982)
100.000% <= 1.039 milliseconds (cumulative count 20000)

Cumulative distribution of latencies:
0.320% <= 0.103 milliseconds (cumulative count 64)

Summary:
  throughput summary: 49504.95 requests per second
  latency summary (msec):
          avg       min       p50       p95       p99       max
        0.255     0.072     0.247     0.447     0.591     1.039
"""
    figures, latencies = read_benchmark(output)
    assert figures == {"per_second": 49504.95, "p50_ms": 0.247, "p99_ms": 0.591, "p99.9_ms": 0.871}
    assert latencies[1:3] == [(0.5, 0.247), (pytest.approx(0.99902), 0.871)]


def test_the_profile_counts_the_main_thread_at_work() -> None:
    """Waiting and other threads are left out; lines of one function are put together."""
    stacks = """thread (1): MainThread;run (a.py:1);work (asynq_ttl/relay.py:5) 6
thread (1): MainThread;run (a.py:2);work (asynq_ttl/relay.py:7);write (libc.so.6) 2
thread (1): MainThread;run (a.py:2);epoll_pwait (libc.so.6) 100
thread (2): Exporter;wait (b.py:1) 100"""
    lines = function_table(stacks, 2).splitlines()
    assert lines[0].startswith("8 samples")
    assert lines[1].split() == ["75.0%", "100.0%", "work", "(asynq_ttl/relay.py)"]
    assert lines[2].split() == ["25.0%", "25.0%", "write", "(libc.so.6)"]
    assert [line for line in lines if "b.py" in line or "epoll" in line] == []


def test_system_calls_are_told_per_command() -> None:
    """Those of all threads together."""
    trace = """
 python (1), 218 events, 97.3%

   syscall            calls  errors  total
   --------------- --------  ------ --------
   read                1500     13     0.413
   write                500      0     0.413

 python (2), 8 events, 2.3%

   read                 500      0     0.413
"""
    assert system_call_table(trace, 1000).splitlines() == [
        "2.50 system calls per command",
        "   2.000  read",
        "   0.500  write",
    ]


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to install."""
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(MissingProgramError, match=r"^there is no redis-benchmark: apt-get install redis-tools, or"):
        program("redis-benchmark")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_command_can_be_fed(kind: str) -> None:
    """As often as asked for; each chunk gets as many replies as it has commands."""
    session = feed(*KINDS[kind], 2)
    assert session.commands == session.replies > 200


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", [relay, route])
def test_each_kind_of_command_can_pass(kind: str, way: Callable[[bytes, bytes, int], Downstream]) -> None:
    """From one side of a connection to the other, to one Redis and to a node of a cluster: nothing is left over."""
    client = way(*KINDS[kind], 2)
    assert client.session.commands == client.session.replies > 200
    assert client.idle


def test_instructions_are_read_from_what_callgrind_says() -> None:
    """It says it among other things."""
    told = "==1== Events    : Ir\n==1== Collected : 123456789\n==1== \n==1== I   refs:      123,456,789\n"
    assert collected(told) == 123_456_789


@pytest.mark.parametrize(("told", "counted"), [("events: Ir\nsummary: 4430\n\n", 4430), ("events: Ir\n\n", 0)])
def test_instructions_of_redis_are_read_from_a_dump(told: str, counted: int) -> None:
    """A dump in which nothing was executed has no sum."""
    assert summary(told) == counted
