"""Asynqmon's HTTP API through the sidecar, beside workers that go through it too: the same answers, and the TTLs."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from support.asynq import Harness, Json
from support.servers import Server, SidecarFactory
from trials.clients import programs
from trials.clients.watch import POLICY, Promise, Watch

pytestmark = [pytest.mark.suite, pytest.mark.timeout(600)]  # a first build takes minutes

QUEUE = "/api/queues/default"
Answer = tuple[str, int, str]
"""What was asked, the status of the answer, and its body without what differs from run to run."""


class Dashboard:
    """A browser at asynqmon; it keeps the answers."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.answers: list[Answer] = []

    def ask(self, method: str, path: str, body: Json | None = None) -> None:
        """Ask as its page does."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"http://{self._address}{path}", data=data, method=method)
        try:
            with urlopen(request, timeout=30) as reply:  # noqa: S310
                status, text = reply.status, reply.read().decode()
        except HTTPError as error:
            status, text = error.code, error.read().decode()
        # Moments, and how much memory a queue takes: TTLs take some.
        text = re.sub(r'"\d{4}-\d\d-\d\d[^"]*"|"(memory_usage_bytes|latency_msec|display_latency)":[^,}]+', "...", text)
        self.answers.append((f"{method} {path}", status, text))


@contextmanager
def asynqmon(address: str) -> Iterator[Dashboard]:
    """Run asynqmon at an address."""
    command = [str(programs.asynqmon()), address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Dashboard(process.stdout.readline().strip())
        finally:
            process.kill()


def live(harness: Harness, address: str, watch: Watch) -> list[Answer]:
    """Have tasks archived, run again, deleted and looked at by way of the dashboard; return its answers."""

    def enqueue(*names: str, **options: object) -> None:
        tasks = [{"id": name, "type": f"job:{name[:5]}", "payload": '{"do": "skip"}', **options} for name in names]
        harness.enqueue(address, *tasks)

    def look() -> None:
        for path in ("/api/queues", QUEUE, "/api/queue_stats", "/api/servers"):
            dashboard.ask("GET", path)
        for state in ("pending", "scheduled", "retry", "archived", "completed"):
            dashboard.ask("GET", f"{QUEUE}/{state}_tasks")

    names = ("a", "b", "noise", "c", "d")
    with asynqmon(address) as dashboard:
        enqueue(*names)
        look()
        dashboard.ask("POST", f"{QUEUE}/pending_tasks/a:archive")
        states = {**dict.fromkeys(names, "pending"), "a": "archived"}
        watch.reach(states)
        dashboard.ask("POST", f"{QUEUE}/pending_tasks:batch_archive", {"task_ids": ["b", "nobody"]})
        watch.reach({**states, "b": "archived"})
        dashboard.ask("POST", f"{QUEUE}/pending_tasks:archive_all")
        archived = dict.fromkeys(names, "archived")
        watch.reach(archived, noise=("noise",))
        look()
        dashboard.ask("POST", f"{QUEUE}/archived_tasks/a:run")
        dashboard.ask("POST", f"{QUEUE}/archived_tasks:batch_run", {"task_ids": ["b", "nobody"]})
        watch.reach({**archived, "a": "pending", "b": "pending"}, noise=("noise",))
        dashboard.ask("POST", f"{QUEUE}/archived_tasks:run_all")
        watch.reach(dict.fromkeys(names, "pending"))
        harness.work(address)
        watch.reach(archived, noise=("noise",))
        enqueue("later", process_in="1h")
        enqueue("grouped", group="g")
        dashboard.ask("POST", f"{QUEUE}/scheduled_tasks:archive_all")
        dashboard.ask("POST", f"{QUEUE}/groups/g/aggregating_tasks:archive_all")
        watch.reach({**archived, "later": "archived", "grouped": "archived"}, noise=("noise",))
        dashboard.ask("GET", f"{QUEUE}/tasks/noise")
        dashboard.ask("DELETE", f"{QUEUE}/archived_tasks/noise")
        dashboard.ask("POST", f"{QUEUE}/archived_tasks:batch_delete", {"task_ids": ["a", "nobody"]})
        look()
        dashboard.ask("DELETE", f"{QUEUE}/archived_tasks:delete_all")
        watch.reach({})
        dashboard.ask("DELETE", QUEUE)
    return dashboard.answers


def test_asynqmon_does_not_notice_the_sidecar(
    each_server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """All it can archive gets its TTL at once, all it runs again loses it."""
    direct = live(harness, f"127.0.0.1:{each_server.port}", Watch(each_server, Promise.NEVER))
    each_server.reset()
    address = start_sidecar(each_server.url, POLICY).address
    behind = live(harness, address, Watch(each_server, Promise.AT_ONCE))
    assert behind == direct
    assert {status for _, status, _ in direct} <= {200, 204}
