"""Count the instructions that a session spends on a command and its reply, by the kind of command.

    python bench/instructions.py
    python bench/instructions.py --kind decided --package ../before/proxy
    python bench/instructions.py --node-port
    python bench/instructions.py --routed-port
    python bench/instructions.py --session
    python bench/instructions.py --kind decided --telemetry 0.1

Valgrind's callgrind counts what a program executes, so the figures are the same on a busy machine as on an idle one.
Each kind is run with N and with 2N commands: the difference is what N commands cost, without Python's start. Sockets
are left out: it is both sides of a connection, from the bytes that come to those that are written, to one Redis or by a
cluster's port for any client; or the session alone. So is telemetry, unless a share of the tasks to trace is given;
then spans are made, encoded and sent nowhere. Needs `apt-get install valgrind`.
"""

import asyncio
import gc
import os
import re
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import cast

import click
import requests

# The folder `tests` has the parts: a conversation between a client and Redis, and scripts in the shape of Asynq's.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from topology import PORTS

from asynq_ttl.net.address import parse_upstream
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import Keep, Retention, Rule
from asynq_ttl.relay.connection import Downstream
from asynq_ttl.relay.relay import Relay
from asynq_ttl.rewriting.registry import sha_of
from asynq_ttl.session.renaming import Directory, Renaming
from asynq_ttl.session.session import Session
from asynq_ttl.telemetry.recorder import Telemetry
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.wire.commands import encode
from support.conversation import MESSAGE, PENDING, TASK, WEEK, Conversation, complete, dequeue, pipeline
from support.relayed import Upstream, connected
from support.routed_scene import Scene
from support.small_scripts import COMPLETE, DEQUEUE, ENQUEUE, OTHER

_COMMANDS = 4000
# Until the interpreter has adapted to what it runs, and what can be remembered is.
_WARM_UP = 200

# Commands that are taken together between two looks at timers.
_TURN = 20

# In the one queue an enqueue may replace a task, in all others not.
_RULES = Rule("replace", queues=(compile_glob("r"),), archived=Retention(Keep.TTL, 60, replaceable=True)), WEEK

# A chunk of a client, and what Redis replies.
_COMPLETE, _POLL = complete(sha_of(COMPLETE)), dequeue(sha_of(DEQUEUE))
KINDS = {
    "forwarded": (pipeline((b"GET", TASK)), b"$-1\r\n"),
    "untouched": (pipeline((b"EVALSHA", sha_of(OTHER), b"2", TASK, PENDING, b"message")), b":1\r\n"),
    "unseen": (
        pipeline((b"EVALSHA", b"5eed" * 10, b"2", TASK, PENDING, b"message")),
        b":1\r\n",
    ),
    "poll": (pipeline(_POLL), b"$-1\r\n"),
    "enqueue": (pipeline((b"EVALSHA", sha_of(ENQUEUE), b"2", TASK, PENDING, MESSAGE, b"1")), b":1\r\n"),
    "enqueue, replaceable": (
        pipeline((b"EVALSHA", sha_of(ENQUEUE), b"2", b"asynq:{r}:t:1", b"asynq:{r}:pending", MESSAGE, b"1")),
        b":1\r\n",
    ),
    "decided": (pipeline(_COMPLETE), b"+OK\r\n"),
    "pipeline": (pipeline((b"PING",), _COMPLETE, _POLL), b"+PONG\r\n+OK\r\n$-1\r\n"),
}


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--kind", "kinds", type=click.Choice(list(KINDS)), multiple=True, default=list(KINDS))
@click.option("--package", type=click.Path(path_type=Path, exists=True), help="Where another version of asynq_ttl is.")
@click.option("--node-port", is_flag=True, help="As at the port of a cluster's node, the session alone.")
@click.option("--routed-port", is_flag=True, help="As at a cluster's port for any client, both sides.")
@click.option("--session", is_flag=True, help="The session alone.")
@click.option("--telemetry", type=click.FloatRange(0, 1), help="Tell telemetry, and trace such a share of the tasks.")
@click.option("--run", type=click.IntRange(min=1), hidden=True)
def main(
    *,
    kinds: tuple[str, ...],
    package: Path | None,
    node_port: bool,
    routed_port: bool,
    session: bool,
    telemetry: float | None,
    run: int | None,
) -> None:
    """Count and print; or, under valgrind, run so many chunks of the one kind."""
    if run is not None:
        gc.disable()  # it would come at another moment in each version
        if session or node_port:
            feed(*KINDS[kinds[0]], run, node_port=node_port)
        elif routed_port:
            route(*KINDS[kinds[0]], run)
        else:
            relay(*KINDS[kinds[0]], run, telemetry)
        return
    options = ["--session"] * session + ["--node-port"] * node_port + ["--routed-port"] * routed_port
    options += [] if telemetry is None else ["--telemetry", str(telemetry)]
    for kind in kinds:
        once, twice = (_count(kind, chunks, package, options) for chunks in (_COMMANDS, 2 * _COMMANDS))
        click.echo(f"{(twice - once) / _COMMANDS:9,.0f}  {kind}")


class Sink:
    """A transport that takes whatever is written."""

    write = deque[bytes](maxlen=0).append

    def get_extra_info(self, _name: str) -> None:
        """Know nothing of the other end."""

    def pause_reading(self) -> None:
        """Go on."""

    resume_reading = pause_reading

    def is_closing(self) -> bool:
        """Say that it is open."""
        return False


def relay(chunk: bytes, reply: bytes, chunks: int, traced: float | None = None) -> Downstream:
    """Let both sides of a connection receive a chunk and a reply over and over; return the client's side.

    Args:
        chunk: what the client sends.
        reply: what Redis replies.
        chunks: how often.
        traced: the share of tasks that telemetry traces; None where nobody is told.
    """
    talk = Conversation(*_RULES).knows(COMPLETE, DEQUEUE, ENQUEUE)
    talk.registry.learn(OTHER)
    if traced is not None:
        talk.shared.observer = _telemetry(traced)

    async def run() -> Downstream:
        upstream = Upstream()
        control = ControlConnection(upstream, talk.registry, lambda *_: None, lambda: None)
        relay = Relay(talk.shared, upstream, control, upstream.measured, max_connections=1)
        client = relay.accept()
        client.connection_made(cast("asyncio.Transport", Sink()))
        await asyncio.gather(*relay.tasks)
        redis = upstream.protocols[0]
        redis.connection_made(cast("asyncio.Transport", Sink()))
        receive, answer = client.data_received, redis.data_received
        for number in range(_WARM_UP + chunks):
            receive(chunk)
            answer(reply)
            talk.observer.outcomes.clear()
            if number % _TURN == 0:
                await asyncio.sleep(0)  # timers come to their turn
        return client

    return asyncio.run(run())


def route(chunk: bytes, reply: bytes, chunks: int) -> Downstream:
    """Let both sides of a routed connection receive a chunk and a reply over and over; return the client's side."""
    talk = Conversation(*_RULES).knows(COMPLETE, DEQUEUE, ENQUEUE)
    talk.registry.learn(OTHER)

    async def run() -> Downstream:
        relay, *_ = await connected()
        scene = Scene(relay, talk, cast("asyncio.Transport", Sink()))
        await scene.begin()
        # The first of them open the connection, and load a wrapper. (A command without a key goes where the last went.)
        await scene.sends(encode([b"GET", b"asynq:{r}:t:1" if b"{r}" in chunk else TASK]))
        node = next(number for number, node in enumerate(scene.nodes) if node.wires)
        scene.replies(node, b"$-1\r\n")
        await scene.sends(chunk)
        scene.replies(node, reply)
        scene.nodes[node].protocols[0].connection_made(cast("asyncio.Transport", Sink()))
        receive, answer = scene.client.data_received, scene.nodes[node].protocols[0].data_received
        for _ in range(_WARM_UP + chunks):
            receive(chunk)
            answer(reply)
            talk.observer.outcomes.clear()
        return scene.client

    return asyncio.run(run())


def _telemetry(traced: float) -> Telemetry:
    """Return telemetry as a sidecar has it, whose spans are encoded and sent nowhere."""
    sent = requests.Response()
    sent.status_code = 200
    # What the exporter sends by, in every version: by this alone, or by `post`, which calls it.
    requests.Session.request = lambda *_, **__: sent  # type: ignore[method-assign]
    os.environ |= {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": str(traced)}
    upstream = parse_upstream("redis://127.0.0.1:6379/0")
    return Telemetry(upstream, {**os.environ, "OTEL_TRACES_EXPORTER": "otlp"}, pulled=True)


def feed(chunk: bytes, reply: bytes, chunks: int, *, node_port: bool = False) -> Session:
    """Let a client send a chunk over and over, each followed by Redis's reply; return the session it was sent to."""
    talk = Conversation(*_RULES).knows(COMPLETE, DEQUEUE, ENQUEUE)
    talk.registry.learn(OTHER)
    session = talk.session
    renaming = Renaming(Directory(PORTS, lambda: 0, click.echo)) if node_port else None
    for _ in range(_WARM_UP + chunks):
        session.receive_downstream(chunk)
        session.receive_upstream(reply if renaming is None else renaming.receive(reply))
    return session


def _count(kind: str, chunks: int, package: Path | None, options: list[str]) -> int:
    """Return the instructions of a run of so many chunks."""
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    program = [sys.executable, __file__, "--kind", kind, "--run", str(chunks), *options]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    if package is not None:
        environment["PYTHONPATH"] = str(package)
    run = subprocess.run([*valgrind, *program], env=environment, capture_output=True, text=True, check=True)
    return collected(run.stderr)


def collected(told: str) -> int:
    """Return the instructions that callgrind says it has counted."""
    found = re.search(r"Collected : (\d+)", told)
    assert found is not None, told
    return int(found[1])


if __name__ == "__main__":
    main()
