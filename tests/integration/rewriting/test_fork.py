"""A fork of Asynq with a prefix of its own works as without a sidecar, and is seen by whoever looks."""

import json
import re

import pytest

from support.asynq import Harness
from support.asynq_fork import PREFIX, build_fork
from support.existing_keys import tool, url
from support.servers import Server, SidecarFactory, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 1h}}]\n"
TASKS = [
    {"id": "dead", "type": "x", "payload": '{"do": "skip"}'},
    {"id": "done", "type": "x", "payload": "{}", "retention": "1h"},
]


def end_tasks(program: Harness, sidecar: str) -> None:
    """Archive a task and complete one."""
    program.enqueue(sidecar, *TASKS)
    program.work(sidecar)


@pytest.mark.parametrize("beside_asynq", [False, True])
def test_a_fork_is_served_and_seen(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, *, beside_asynq: bool
) -> None:
    """It is counted, logged once, and found by `doctor`, whether Asynq itself has tasks there or not."""
    sidecar = start_sidecar(server.url, POLICY, admin="127.0.0.1:0")
    sidecar.expected_warnings.append(r"failed open \(prefix\)")
    if beside_asynq:
        end_tasks(harness, sidecar.address)
    with Harness(build_fork()) as fork:
        for _ in range(2):
            end_tasks(fork, sidecar.address)
            fork.inspect(sidecar.address, {"op": "delete_all", "queue": "default", "state": "archived"})
            fork.inspect(sidecar.address, {"op": "delete_all", "queue": "default", "state": "completed"})
        end_tasks(fork, sidecar.address)
    with server.client() as client:
        for task in ("dead", "done"):
            assert client.ttl(f"{PREFIX}asynq:{{default}}:t:{task}") == -1
            assert (client.ttl(f"asynq:{{default}}:t:{task}") > 0) == beside_asynq
    wait_until(lambda: "failed open (prefix)" in sidecar.log(), "it is not logged")
    assert len(re.findall(rf"failed open \(prefix\).*{PREFIX}asynq:{{", sidecar.log())) == 1
    result = tool("doctor", "--json", "--upstream", url(server))
    if beside_asynq:
        found = {finding["code"]: finding for finding in json.loads(result.stdout)["findings"]}
        assert found["prefix"]["examples"] == [f"{PREFIX}asynq:{{: 2"]
        assert result.exit_code == 3
    else:
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"a fork of Asynq whose keys begin with {PREFIX}asynq:{{" in result.stderr
