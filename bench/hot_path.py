"""Profile a proxy under the Asynq load: where its CPU time goes, in Python, in C and in system calls.

    python bench/hot_path.py --contestant asynq-ttl-traced --stacks stacks.txt

py-spy samples the Python stacks of the main thread (of a sidecar). perf, where it works, tells the shares of kernel and
libraries and counts the system calls. Sampling slows the proxy down: shares are to be believed, rates are not.
"""

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

# The folder `tests` has the parts: servers, the sidecar as a process, Asynq, an OTLP receiver.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from asynq_load import AsynqLoad
from contestants import CONTESTANTS, SERVERS, Contestant, MissingProgramError, start, start_server

from asynq_ttl.demo.harness import HarnessError, build_harness
from support.asynq import Harness

_ATTACH_SECONDS = 1.0
_PROXIES = [name for name in CONTESTANTS if name not in {"direct", "twemproxy"}]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How py-spy samples, and where the collapsed stacks go."""

    rate: int
    native: bool
    file: Path


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--contestant", type=click.Choice(_PROXIES), default="asynq-ttl-traced")
@click.option("--server", type=click.Choice(list(SERVERS)), default="redis-7", help="The Redis behind it.")
@click.option("--tasks", type=click.IntRange(min=1000), default=15_000)
@click.option("--rate", type=click.IntRange(1, 1000), default=200, help="Samples per second.")
@click.option("--python-only", is_flag=True, help="Leave native frames out: cheaper, and C counts for its caller.")
@click.option("--lines", type=click.IntRange(min=1), default=45, help="How many functions to list.")
@click.option("--stacks", type=click.Path(path_type=Path, dir_okay=False), help="Where to write the collapsed stacks.")
def main(
    *, contestant: str, server: str, tasks: int, rate: int, python_only: bool, lines: int, stacks: Path | None
) -> None:
    """Profile and print."""
    with tempfile.TemporaryDirectory() as folder:
        sampling = Sampling(rate, not python_only, stacks or Path(folder) / "stacks.txt")
        try:
            with start_server(server) as upstream, start(contestant, upstream) as running:
                click.echo(_profile(running, AsynqLoad(tasks), sampling, Path(folder), lines))
        except (MissingProgramError, HarnessError) as error:
            raise click.ClickException(str(error)) from None


def _profile(contestant: Contestant, load: AsynqLoad, sampling: Sampling, folder: Path, lines: int) -> str:
    """Apply the load four times, plain, under py-spy and twice under perf, and tell about each."""
    (process,) = contestant.processes
    told = []
    with Harness(build_harness()) as harness:
        load.warm_up(contestant, harness)
        run = load.run(contestant, harness)
        user, system = (seconds / run.commands * 1e6 for seconds in (run.proxy.user, run.proxy.system))
        told.append(f"{user:.1f} µs user and {system:.1f} µs system per command, over {run.commands:,} commands")
        if contestant.name.startswith("asynq-ttl"):
            with _sampled(process, sampling):
                load.run(contestant, harness)
            told.append(function_table(sampling.file.read_text(), lines))
        if shutil.which("perf"):
            samples, calls = folder / "samples", folder / "calls"
            with _perf("record", process, samples, "--event", "cpu-clock", "--freq", "2000"):
                load.run(contestant, harness)
            told.append(_library_table(samples, lines))
            with _perf("trace", process, calls, "--summary"):
                run = load.run(contestant, harness)
            told.append(system_call_table(calls.read_text(), run.commands))
    return "\n\n".join(told)


def function_table(stacks: str, lines: int) -> str:
    """Return the functions of collapsed stacks by their shares of the samples in which the main thread was at work.

    Args:
        stacks: lines of `thread;outermost;...;innermost count`, as `py-spy record --threads --format raw` writes.
        lines: how many functions to list, of either kind.
    """
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        thread, *frames = [re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";")]
        if "MainThread" in thread and not frames[-1].startswith("epoll_"):
            own[frames[-1]] += int(count)
            total.update(dict.fromkeys(frames, int(count)))
    samples = own.total() or 1

    def row(name: str) -> str:
        return f"{own[name] / samples:7.1%} {total[name] / samples:7.1%}  {name}"

    ours = [name for name, _ in total.most_common() if "asynq_ttl/" in name]
    return "\n".join(
        [
            f"{samples:,} samples; share as the innermost function, share with all it calls",
            *(row(name) for name, _ in own.most_common(lines)),
            "\nThe sidecar's own functions, by the share with all they call",
            *(row(name) for name in ours[:lines]),
        ]
    )


def system_call_table(trace: str, commands: int) -> str:
    """Return the system calls per command, from the summary that `perf trace -s` writes.

    Args:
        trace: the summary.
        commands: commands that clients sent meanwhile.
    """
    calls: Counter[str] = Counter()
    for name, count in re.findall(r"^   (\w+) +(\d+) ", trace, re.MULTILINE):
        calls[name] += int(count)
    told = [f"{calls.total() / commands:.2f} system calls per command"]
    told += [f"{count / commands:8.3f}  {name}" for name, count in calls.most_common(8)]
    return "\n".join(told)


def _library_table(file: Path, lines: int) -> str:
    """Return the shares of kernel and libraries, and of their functions, in what `perf record` wrote."""
    told = ["share of CPU time, all threads, by library and by function"]
    for key, most in (("dso", 10), ("dso,symbol", lines)):
        command = ["perf", "report", "--input", str(file), "--stdio", "--sort", key]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        told += [line.rstrip(" -") for line in report.splitlines() if line.strip() and not line.startswith("#")][:most]
        told.append("")
    return "\n".join(told[:-1])


@contextmanager
def _sampled(process: int, sampling: Sampling) -> Iterator[None]:
    py_spy = Path(sys.executable).with_name("py-spy")
    if not py_spy.exists():
        raise MissingProgramError("there is no py-spy: pip install 'asynq-ttl[bench]'")
    options = ["--threads", "--format", "raw", "--rate", str(sampling.rate), "--output", str(sampling.file)]
    options += ["--native"] if sampling.native else []
    with _beside(str(py_spy), "record", "--pid", str(process), *options):
        yield


@contextmanager
def _perf(command: str, process: int, file: Path, *options: str) -> Iterator[None]:
    with _beside("perf", command, "--pid", str(process), "--output", str(file), *options):
        yield


@contextmanager
def _beside(*command: str) -> Iterator[None]:
    """Run a program beside what is done meanwhile, then interrupt it as ^C does."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as observer:
        time.sleep(_ATTACH_SECONDS)
        try:
            yield
        finally:
            observer.send_signal(signal.SIGINT)
            _, complaint = observer.communicate(timeout=60)
    if observer.returncode not in {0, -signal.SIGINT}:
        raise MissingProgramError(f"{command[0]} cannot observe the proxy: {complaint.strip()}")


if __name__ == "__main__":
    main()
