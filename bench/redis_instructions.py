"""Count the instructions that Redis executes for each wrapped script, beside the original's.

    python bench/redis_instructions.py
    python bench/redis_instructions.py --operation "run all of 1,000 archived" --package ../before/proxy
    python bench/redis_instructions.py --by-type

Valgrind's callgrind counts what `redis-server` executes between the beginning and the end of each EVALSHA, all that the
script calls included, and nothing else: neither reading the command nor answering it. So the figures are the same on a
busy machine as on an idle one. Operations and policy are those of `run.py scripts`; with `--by-type` a rule of
the queue names a type too, so that by hand each message is read. Needs `apt-get install valgrind redis-server`.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

# The folder `tests` has servers, the sidecar as a process, and Asynq's calls.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from contestants import program
from redis import Redis
from script_cost import OPERATIONS, SIZES, Operation, Queue, learn, policy_text

from support.asynq_calls import QUEUE, calls_of
from support.servers import Server, SidecarFactory, free_port, wait_until

_BLOCKS = 2
# Under callgrind it takes long to fill a queue. In `archived` it takes 10,000, or Asynq's own trims find nothing.
_SIZES = {**SIZES, "pending": 100, "scheduled": 100, "completed": 100}
_SECONDS = 300.0
_BY_TYPE = f"rules:\n  - {{name: noise, match: {{queue: {QUEUE}, type: 'ping:*'}}, archived: {{ttl: 1h}}}}\n"
_NAMES = [operation.name for operation in OPERATIONS]


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--operation", "names", type=click.Choice(_NAMES), multiple=True, default=_NAMES, show_default="all")
@click.option("--package", type=click.Path(path_type=Path, exists=True), help="Where another version of asynq_ttl is.")
@click.option("--by-type", is_flag=True, help="A rule of the queue names a type.")
def main(*, names: tuple[str, ...], package: Path | None, by_type: bool) -> None:
    """Count and print."""
    options = {"PYTHONPATH": str(package.resolve())} if package else {}
    policy = policy_text(_SIZES)
    if by_type:
        policy = policy.replace("rules:\n", _BY_TYPE)
    with tempfile.TemporaryDirectory() as folder:
        redis = CountedRedis(Path(folder))
        with (
            redis.run() as server,
            SidecarFactory(Path(folder) / "sidecars") as start,
            _client(start(server.url, policy, sweep_interval="0", **options).port) as through,
            _client(server.port) as past,
        ):
            queue = Queue(past, _SIZES)
            for place in _SIZES:
                queue.top_up(place)
            click.echo("thousands of instructions: original, wrapped, ratio")
            for operation in OPERATIONS:
                if operation.name in names:
                    learn(operation, queue, (past, through))
                    plain, ours = (_instructions(operation, queue, way, redis) for way in (past, through))
                    click.echo(f"{plain / 1000:10,.1f} {ours / 1000:10,.1f} {ours / plain:6.2f}  {operation.name}")


class CountedRedis:
    """Debian's Redis under callgrind, which counts while a script that is called by its SHA is executed.

    Args:
        folder: an empty folder for what both of them write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._dumps = self._process = 0

    @contextmanager
    def run(self) -> Iterator[Server]:
        """Run it."""
        port, socket = free_port(), self._folder / "server.sock"
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self._folder}/counted"]
        valgrind += ["--toggle-collect=evalShaCommand", program("redis-server")]
        options = ["--port", str(port), "--unixsocket", str(socket), "--save", "", "--dir", str(self._folder)]
        command, nowhere = [*valgrind, *options], subprocess.DEVNULL
        with subprocess.Popen(command, stdout=nowhere, stderr=nowhere) as process:
            try:
                wait_until(socket.exists, "redis-server does not start", 60)
                self._process = process.pid
                yield Server("counted", port, socket, process)
            finally:
                process.kill()

    def counted(self) -> int:
        """Return the instructions that were counted since the last time."""
        subprocess.run(["vgdb", f"--pid={self._process}", "dump"], check=True, capture_output=True)
        self._dumps += 1
        return summary((self._folder / f"counted.{self._dumps}").read_text())


def summary(dump: str) -> int:
    """Return the instructions that a file of callgrind's says it has counted; 0 where it has counted none."""
    found = re.search(r"^(?:summary|totals): (\d+)$", dump, re.MULTILINE)
    return int(found[1]) if found else 0


def _client(port: int) -> "Redis":
    return Redis(port=port, socket_timeout=_SECONDS)


def _instructions(operation: Operation, queue: Queue, way: "Redis", redis: CountedRedis) -> float:
    """Return the instructions of one call of an operation."""
    total = calls = 0
    for _ in range(_BLOCKS):
        about = operation.prepare(queue)
        redis.counted()
        pipeline = way.pipeline(transaction=False)
        for each in about:
            operation.call(calls_of(pipeline), queue, each)
        pipeline.execute()
        total += redis.counted()
        calls += len(about)
    return total / calls


if __name__ == "__main__":
    main()
