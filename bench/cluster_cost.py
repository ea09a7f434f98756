"""What a command costs in front of a cluster, beside what it costs in front of one Redis.

    python bench/cluster_cost.py --rounds 5 --commands 20000

Starts a cluster of three masters, a Redis, and a sidecar in front of each, and lets redis-benchmark send commands over
20 connections: to one Redis, to a node's port and to the port for any client, in each round once. Prints the sidecar's
CPU per command in microseconds, without what it takes when it is idle, and the ratio to the first: medians over the
rounds. Needs `apt-get install redis-server redis-tools`.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

# The folder `tests` has the parts: servers, clusters and sidecars.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from asynq_ttl.rewriting.registry import sha_of
from support.cluster import node_ports, serve_cluster, start_cluster
from support.servers import Sidecar, SidecarFactory, start_path_redis

_POLICY = "version: 1\nrules:\n  - {name: all, archived: {ttl: 7d}, completed: {ttl: keep}}\n"
_CONNECTIONS = 20
_IDLE_SECONDS = 3.0
_SCRIPT = "return 1"
# What is sent. A key with the place for a random number is at any node.
LOADS: dict[str, tuple[str | bytes, ...]] = {
    "set": ("SET", "key", "value"),
    "set-anywhere": ("SET", "key:__rand_int__", "value"),
    "evalsha": ("EVALSHA", sha_of(_SCRIPT.encode()), "1", "key", "value"),
}


class Contestant:
    """A sidecar, and the port at which commands are sent to it."""

    def __init__(self, sidecar: Sidecar, port: int) -> None:
        assert sidecar.process is not None
        self._usage = Path(f"/proc/{sidecar.process.pid}/schedstat")  # of its main thread, which serves all clients
        self._port = port
        began = self._seconds()
        time.sleep(_IDLE_SECONDS)
        self._idle = (self._seconds() - began) / _IDLE_SECONDS

    def _seconds(self) -> float:
        return int(self._usage.read_text().split()[0]) / 1e9

    def cost(self, load: str, commands: int) -> float:
        """Return the seconds of CPU that so many commands take."""
        benchmark = ["redis-benchmark", "-p", str(self._port), "-c", str(_CONNECTIONS), "-r", "100000", "-q"]
        began, before = time.monotonic(), self._seconds()
        said = subprocess.run(
            [*benchmark, "-n", str(commands), *LOADS[load]], capture_output=True, text=True, check=True
        )
        assert "rror" not in said.stdout + said.stderr, said
        return self._seconds() - before - self._idle * (time.monotonic() - began)


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--rounds", type=click.IntRange(min=1), default=5)
@click.option("--commands", type=click.IntRange(min=1000), default=20_000)
@click.option("--load", "loads", type=click.Choice(list(LOADS)), multiple=True, default=list(LOADS))
def main(*, rounds: int, commands: int, loads: tuple[str, ...]) -> None:
    """Measure and print."""
    with contestants() as there:
        for load in loads:
            # A cluster's client would not send keys of other nodes to a node's port.
            names = [name for name in there if load != "set-anywhere" or name != "node port"]
            taken: dict[str, list[float]] = {name: [] for name in names}
            for turn in range(rounds):
                for name in _rotated(names, turn):
                    taken[name].append(there[name].cost(load, commands))
            for name, each in taken.items():
                ratio = statistics.median(one / plain for one, plain in zip(each, taken[names[0]], strict=True))
                click.echo(f"{load:14} {name:12} {statistics.median(each) / commands * 1e6:6.1f} us {ratio:6.2f}")


@contextmanager
def contestants() -> Iterator[dict[str, Contestant]]:
    """Have them all run while the block does, by name; the first is what the others are compared with."""
    with (
        tempfile.TemporaryDirectory() as folder,
        start_path_redis() as redis,
        start_cluster() as cluster,
        SidecarFactory(Path(folder)) as start,
    ):
        one = start(redis.url, _POLICY)
        many = serve_cluster(start, cluster, _POLICY, admin="off")
        for sidecar in (one, many):
            with sidecar.client() as client:
                client.script_load(_SCRIPT)
        yield {
            "one redis": Contestant(one, one.port),
            "node port": Contestant(many, node_ports(many)[cluster.owner("key").port]),
            "any client": Contestant(many, many.port),
        }


def _rotated(names: list[str], turn: int) -> list[str]:
    first = turn % len(names)
    return names[first:] + names[:first]


if __name__ == "__main__":
    main()
