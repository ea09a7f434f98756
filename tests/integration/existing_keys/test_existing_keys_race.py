"""Real Asynq runs, deletes and replaces tasks while backfill and persist work on the same ones: none is harmed."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from support.asynq import Harness
from support.existing_keys import tasks, tool, url
from support.servers import Server, SidecarFactory

TASKS = 150
LEAST_CHANGES = 2
SECONDS = 8
LONGEST_SECONDS = 90
# The sidecar takes TTLs off what is run again, and gives none itself: backfill has always something to do.
SIDECAR = "version: 1\nrules: [{name: other, match: {type: 'other:*'}, archived: {ttl: 7d}}]"
POLICY = """
version: 1
rules:
  - {name: precious, match: {type: "precious:*"}, archived: {ttl: forever}, completed: {ttl: forever}}
  - {name: noise, match: {type: "noise:*"}, archived: {ttl: delete}}
  - {name: all, archived: {ttl: 7d}, completed: {ttl: 2h}}
"""
# Finds live tasks with a TTL and hashes without a message, in one step.
LOOK = """
local wrong = {}
for _, key in ipairs(redis.call('KEYS', 'asynq:{default}:t:*')) do
  local state = redis.call('HGET', key, 'state')
  if state ~= 'archived' and state ~= 'completed' and redis.call('PTTL', key) >= 0 then
    wrong[#wrong + 1] = key .. ' is ' .. tostring(state)
  elseif redis.call('HEXISTS', key, 'msg') == 0 then
    wrong[#wrong + 1] = key .. ' has no message'
  end
end
return wrong
"""


@pytest.mark.timeout(180)
def test_no_task_is_harmed(server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path) -> None:
    """No live task ever has a TTL, none that took the place of another gets what that one was to get, none is lost."""
    sidecar = start_sidecar(server.url, SIDECAR)
    fail = {"payload": '{"do": "skip", "ms": 2}'}
    harness.enqueue(sidecar.address, *({"id": f"run-{n}", "type": "x", **fail} for n in range(TASKS)))
    # These are not run again, so that each tool has always something to do, however slow it is.
    still = ({"id": f"still-{n}", "type": "x", "queue": "still", **fail} for n in range(TASKS // 10))
    harness.enqueue(sidecar.address, *still)
    quick = ("-queues", "default=4,still=1", "-task-check-interval", "20ms", "-concurrency", "20", "-quiet")
    worker = harness.serve(sidecar.address, *quick)
    precious: set[str] = set()
    wrong: list[Any] = []
    changed = {"backfill": 0, "persist": 0}
    started = time.monotonic()

    def run_again() -> None:
        harness.inspect(sidecar.address, {"op": "run_all", "queue": "default", "state": "archived"})
        time.sleep(0.15)

    def replace() -> None:
        """Put noise there, delete some of it (or have it removed) and put a task that is kept for ever in its place."""
        names = [f"place-{n}" for n in range(20)]
        harness.enqueue(sidecar.address, *({"id": name, "type": "noise:x", **fail} for name in names))
        harness.try_inspect(sidecar.address, *({"op": "delete_task", "queue": "default", "id": n} for n in names))
        answers = harness.enqueue(sidecar.address, *({"id": n, "type": "precious:x", **fail} for n in names))
        precious.update(answer["id"] for answer in answers if "id" in answer)

    def backfill() -> None:
        line = (
            "backfill",
            "--upstream",
            url(server),
            "--apply",
            "--ghosts",
            "drop",
            "--orphans",
            "delete",
            "--show",
            "0",
        )
        result = tool(*line, policy=POLICY, folder=tmp_path)
        assert result.exit_code == 0, result.output
        changed["backfill"] += "Changed" in result.output

    def persist() -> None:
        result = tool("persist", "--upstream", url(server), "--apply", "--show", "0")
        assert result.exit_code == 0, result.output
        changed["persist"] += "Changed" in result.output

    def look() -> None:
        with server.client() as client:
            wrong.extend(client.eval(LOOK, 0))
        time.sleep(0.005)

    failures: list[BaseException] = []

    def repeat(*steps: Callable[[], None]) -> None:
        try:
            while goes_on(time.monotonic() - started, changed):
                for step in steps:
                    step()
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    # The tools share this process's standard output, so they take turns; Asynq goes on all the time.
    threads = [threading.Thread(target=repeat, args=steps) for steps in ((run_again,), (replace,), (look,))]
    for thread in threads:
        thread.start()
    repeat(backfill, backfill, persist)
    for thread in threads:
        thread.join()
    worker.stop()
    assert not failures, failures
    assert not wrong
    assert min(changed.values()) > LEAST_CHANGES
    with server.client() as client:
        assert precious
        assert precious <= tasks(client), "a task was removed in another one's place"
        assert {f"run-{n}" for n in range(TASKS)} <= tasks(client)
        assert_kept_for_ever(client, precious)


def goes_on(seconds: float, changed: dict[str, int]) -> bool:
    """Say whether the race goes on: for its time, and until each tool has come upon something to change some times."""
    return seconds < SECONDS or (min(changed.values()) <= LEAST_CHANGES and seconds < LONGEST_SECONDS)


def assert_kept_for_ever(client: "Redis", names: set[str]) -> None:
    """See that tasks have no TTL, whatever was to become of those whose place they took."""
    for name in names:
        assert client.pttl(f"asynq:{{default}}:t:{name}") == -1, name
