"""What a reply of a large cluster costs: `CLUSTER SLOTS` with many ranges, as a client of a node's port gets it.

    python bench/topology.py --ranges 16384

Prints how many milliseconds of CPU it takes to find where the reply ends, to name the nodes in it, and to take the
answer from memory, and the longest time for one chunk of it: so long do other clients wait. The best of some runs.
"""

import time
from collections.abc import Callable, Iterator

import click

from asynq_ttl.session.renaming import Directory, Renaming
from asynq_ttl.wire.replies import ReplyCounter

_CHUNK = 64 * 1024
_NODES = 6


class Ports:
    """Every node is at a port by the last digit of its own."""

    def of_node(self, _node_id: str, _host: str, port: int) -> int:
        """Return it."""
        return 6400 + port % 10

    def at_address(self, host: str, port: int, _slot: int) -> int:
        """Return it."""
        return self.of_node("", host, port)


PORTS = Ports()


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--ranges", type=click.IntRange(1, 16_384), default=16_384)
@click.option("--runs", type=click.IntRange(min=1), default=10)
def main(*, ranges: int, runs: int) -> None:
    """Measure and print."""
    reply = topology(ranges)
    found: list[float] = []
    first: list[float] = []
    remembered: list[float] = []
    longest: list[float] = []
    for run in range(runs):
        found.append(sum(times(ReplyCounter().feed, reply)))
        directory = Directory(PORTS, lambda run=run: run, click.echo)  # type: ignore[misc] # each run its own
        for into in (first, remembered):
            client = Renaming(directory, b"sidecar.example")
            client.ask(b"SLOTS", 1, queued=False)
            taken = list(times(client.receive, reply))
            into.append(sum(taken))
        longest.append(max(taken))
    click.echo(f"{len(reply) / 1e6:8.2f} MB, {ranges:,} ranges, {_NODES} nodes")
    for name, each in (
        ("where it ends", found),
        ("named for the first time", first),
        ("from memory", remembered),
        ("from memory, the longest chunk", longest),
    ):
        click.echo(f"{min(each) * 1000:8.1f} ms  {name}")


def topology(ranges: int) -> bytes:
    """Return a reply to `CLUSTER SLOTS`: masters by turns, with a replica each."""
    nodes = [
        b"*4\r\n$9\r\n127.0.0.1\r\n:%d\r\n$40\r\n%040x\r\n*2\r\n$8\r\nhostname\r\n$10\r\nhost-%d.exa\r\n"
        % (7000 + number, number, number)
        for number in range(_NODES)
    ]
    half = _NODES // 2
    each = (
        b"*4\r\n:%d\r\n:%d\r\n%b%b" % (slot, slot, nodes[slot % half], nodes[half + slot % half])
        for slot in range(ranges)
    )
    return b"*%d\r\n%b" % (ranges, b"".join(each))


def times(take: Callable[[bytes], object], reply: bytes) -> Iterator[float]:
    """Give a reply in chunks; yield how many seconds of CPU each takes."""
    for start in range(0, len(reply), _CHUNK):
        began = time.process_time()
        take(reply[start : start + _CHUNK])
        yield time.process_time() - began


if __name__ == "__main__":
    main()
