"""Clients of Asynq that are not Asynq: ended tasks get their TTL, nothing is lost, and no client notices the sidecar.

Each client lives the same life twice, at the server itself and through the sidecar, and has to say the same.
"""

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from support.asynq import Harness
from support.servers import Server, SidecarFactory
from trials.clients import programs
from trials.clients.watch import POLICY, Promise, Watch

pytestmark = [pytest.mark.suite, pytest.mark.timeout(900)]  # a first build takes minutes

_SECONDS = 60
Said = tuple[object, ...]
"""An operation, and the exit status, the output and the complaints of the program that did it."""
Inspect = Callable[..., Said]
"""Does an operation of an inspector by its words, as the programs have them, and returns what it said."""


class Client:
    """A client's program at one address; it keeps what was said.

    Args:
        command: the program, and what comes before the address.
        address: HOST:PORT of Redis or of a sidecar.
        own: the operations of an inspector that the program can do.
        other: does the rest.
    """

    def __init__(self, command: list[str], address: str, own: frozenset[str], other: Inspect) -> None:
        self._command = [*command, address]
        self._own = own
        self._other = other
        self.said: list[Said] = []

    def enqueue(self, name: str, kind: str, retention: int = 0) -> None:
        """Enqueue a task that is not tried again; of the types that begin with `fail`, it fails."""
        self.said.append(self._run("enqueue", name, kind, retention, 0))

    def inspect(self, *words: str) -> None:
        """Do an operation of an inspector."""
        self.said.append((self._run if words[0] in self._own else self._other)(*words))

    @contextmanager
    def working(self) -> Iterator[None]:
        """Have its worker run."""
        command = [*self._command, "work"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
            try:
                yield
            except BaseException as error:
                worker.kill()
                error.add_note(worker.communicate()[1])
                raise
            worker.send_signal(signal.SIGINT)
            output, complaints = worker.communicate(timeout=_SECONDS)
        self.said.append(("work", worker.returncode, *map(_timeless, (output, complaints))))

    def _run(self, *words: object) -> Said:
        command = [*self._command, *map(str, words)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        return (*words, run.returncode, _timeless(run.stdout), _timeless(run.stderr))


def _timeless(told: str) -> str:
    """Leave out when a line was logged."""
    return re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d", "", told)


def go_inspector(harness: Harness, address: str) -> Inspect:
    """Return Asynq's own inspector, for clients that have none."""
    operations = {
        "run": {"op": "run_task"},
        "archive": {"op": "archive_task"},
        "run-all": {"op": "run_all", "state": "archived"},
        "archive-all": {"op": "archive_all", "state": "pending"},
    }

    def inspect(word: str, *name: str) -> Said:
        operation = {**operations[word], "queue": "default", **dict(zip(("id",), name, strict=False))}
        return (word, *name, json.dumps(harness.try_inspect(address, operation)))

    return inspect


def live(client: Client, watch: Watch, *, typed: bool) -> None:
    """Live the whole life of a few tasks: ended by a worker, run again and archived by hand, one by one and in bulk.

    Args:
        typed: whether a rule can ask for the types of this client's tasks.
    """
    noise = ("noise",) if typed else ()
    client.enqueue("dead", "fail:x")
    client.enqueue("noise", "fail:noise")
    client.enqueue("kept", "ok:x", retention=600)
    client.enqueue("done", "ok:x")
    states = {"dead": "archived", "noise": "archived", "kept": "completed"}
    with client.working():
        watch.reach(states, noise=noise)
    client.inspect("run", "dead")
    watch.reach({**states, "dead": "pending"}, noise=noise)
    client.inspect("archive", "dead")
    watch.reach(states, noise=noise)
    client.inspect("run-all")
    watch.reach({**states, "dead": "pending", "noise": "pending"})
    client.inspect("archive-all")
    watch.reach(states, noise=noise)
    client.inspect("run", "kept")
    client.inspect("run-all")
    watch.reach(dict.fromkeys(states, "pending"))
    with client.working():
        watch.reach(states, noise=noise)


RUN = frozenset({"run", "run-all"})
ALL = RUN | {"archive", "archive-all"}


def lives_alike(
    command: list[str], own: frozenset[str], server: Server, harness: Harness, start: SidecarFactory, *, typed: bool
) -> None:
    """Assert that a client says the same at a server and through the sidecar, where tasks have their TTLs at once."""

    def said(address: str, promise: Promise) -> list[Said]:
        client = Client(command, address, own, go_inspector(harness, address))
        live(client, Watch(server, promise), typed=typed)
        return client.said

    direct = said(f"127.0.0.1:{server.port}", Promise.NEVER)
    server.reset()
    assert said(start(server.url, POLICY).address, Promise.AT_ONCE) == direct


@pytest.mark.parametrize(("crate", "own"), [("asynq", RUN), ("asynqrs", ALL)])
def test_a_rust_client_does_not_notice_the_sidecar(
    each_server: Server, harness: Harness, start_sidecar: SidecarFactory, crate: str, own: frozenset[str]
) -> None:
    """Its scripts are understood: every task has its TTL in the step that ends it."""
    command = [str(programs.rust_clients()), crate]
    lives_alike(command, own, each_server, harness, start_sidecar, typed=True)


def test_what_a_client_does_wrong_fails_alike(each_server: Server, start_sidecar: SidecarFactory) -> None:
    """The crate `asynq` archives by hand with fewer arguments than its scripts take."""
    command = [str(programs.rust_clients()), "asynq"]

    def said(address: str) -> tuple[list[Said], object]:
        client = Client(command, address, ALL, lambda *words: ())
        client.enqueue("a", "ok:x")
        client.inspect("archive", "a")
        client.inspect("archive-all")
        return client.said, Watch(each_server, Promise.NEVER).tasks()

    direct = said(f"127.0.0.1:{each_server.port}")
    each_server.reset()
    sidecar = start_sidecar(each_server.url, POLICY)
    sidecar.expected_warnings.append(r"failed open \(arguments\)")
    assert said(sidecar.address) == direct
    assert [said[-3] for said in direct[0]] == [0, 1, 1]


def test_asyrq_does_not_notice_the_sidecar(
    each_server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """Scripts of its own, messages in JSON, scores in nanoseconds: TTLs come by effect, from rules without a type."""
    command = programs.python_client("asyrq")
    lives_alike(command, frozenset(), each_server, harness, start_sidecar, typed=False)


@pytest.mark.parametrize("way", ["direct", "behind"])
def test_a_worker_of_asynq_ends_what_py_asynq_enqueues(
    each_server: Server, harness: Harness, start_sidecar: SidecarFactory, way: str
) -> None:
    """py-asynq only enqueues, by scripts of its own, which concern no ended task."""
    promise = {"direct": Promise.NEVER, "behind": Promise.AT_ONCE}[way]
    address = f"127.0.0.1:{each_server.port}"
    if promise is not Promise.NEVER:
        address = start_sidecar(each_server.url, POLICY).address
    command = programs.python_client("py-asynq")
    for kind, do in (("fail:x", "skip"), ("fail:noise", "skip"), ("ok:x", "ok")):
        run = subprocess.run(
            [*command, address, "default", kind, json.dumps({"do": do}), "0"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert len(harness.work(address)) == 7  # two events for each task, and the end
    # It chooses the IDs.
    archived = harness.inspect(address, {"op": "list", "queue": "default", "state": "archived"})[0]
    named = {task["type"]: task["id"] for task in archived}
    watch = Watch(each_server, promise)
    watch.reach(dict.fromkeys(named.values(), "archived"), noise=(named["fail:noise"],))
    assert named.keys() == {"fail:x", "fail:noise"}
