"""A tool does all that it can, names what it cannot, and its exit status says whether its work is whole."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from redis import Redis

from asynq_ttl.asynq.key_types import type_at
from support.existing_keys import DAY, QUEUE, everything, now, put, tool, ttl, url
from support.prepared import launch
from support.servers import Server, start_redis, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 7d}, completed: {ttl: 2h}}]"
NAMES = (
    "pending active scheduled retry archived completed lease deadlines groups aggregation_sets g:x t:x unique:x paused"
)
PLACES = [
    "asynq:queues",
    "asynq:servers",
    "asynq:workers",
    "asynq:schedulers",
    "asynq:schedulers:{one}",
    *(f"asynq:{{aaa}}:{name}" for name in NAMES.split()),
]


def spoil(client: "Redis", key: str) -> None:
    """Put something of another type at a key."""
    client.delete(key)
    if type_at(key.encode()) == b"list":
        client.set(key, "x")
    else:
        client.lpush(key, "x")


@pytest.mark.parametrize("key", PLACES)
def test_a_key_of_the_wrong_type(key: str, server: Server, tmp_path: Path) -> None:
    """At any place of Asynq's grammar: each tool names it where it meets it, and does the rest."""
    with server.client() as client:
        put(client, "a", "archived", now(client) - DAY, queue="aaa", lock=True)
        put(client, "g", "aggregating", None, queue="aaa")
        client.hset("asynq:{aaa}:t:g", "group", "x")
        client.zadd("asynq:{aaa}:g:x", {"g": 1})
        put(client, "b", "archived", now(client) - DAY, queue="mail")
        client.hset("asynq:{aaa}:t:a", "unique_key", "asynq:{aaa}:unique:x")
        client.zadd("asynq:schedulers", {"asynq:schedulers:{one}": 1})
        spoil(client, key)
        audit = tool("audit", "--upstream", url(server), "--json")
        assert audit.exit_code == 4, audit.output
        found = {finding["code"]: finding for finding in json.loads(audit.stdout)["findings"]}
        assert found["wrong-type"]["examples"] == [key]
        assert "lost" not in found
        init = tool("init", "--upstream", url(server))
        assert (init.exit_code, key in init.stderr, 'name: "mail"' in init.stdout) == (1, True, True), init.output
        backfill = tool(
            *["backfill", "--upstream", url(server), "--apply", "--orphans", "delete", "--ghosts", "drop"],
            policy=POLICY,
            folder=tmp_path,
        )
        assert backfill.exit_code in (0, 1), backfill.output
        assert (backfill.exit_code == 1) == (key in backfill.stderr), backfill.output
        assert ttl(client, "b", "mail") > 5 * DAY
        assert client.exists("asynq:{aaa}:t:a")
        export = tool("export", "--upstream", url(server))
        assert {json.loads(line)["id"] for line in export.stdout.splitlines()} == {"a", "b"}
        assert (export.exit_code == 1) == (key in export.stderr), export.output
        persist = tool("persist", "--upstream", url(server), "--apply")
        assert (persist.exit_code == 1) == (key in persist.stderr), persist.output
        assert ttl(client, "b", "mail") == -1


@pytest.mark.parametrize("name", ["a}:t:zz", "a}:archived", "}:", "a}:g:x}:t:y"])
def test_a_queue_whose_name_can_be_read_twice(name: str, server: Server, tmp_path: Path) -> None:
    """Every tool leaves it alone and says so."""
    with server.client() as client:
        put(client, "x", "archived", now(client) - 9 * DAY, queue=name, ttl=500)
        put(client, "y", "archived", now(client) - 9 * DAY, queue=name)
        put(client, "z", "archived", now(client) - DAY, queue="a")
        before = {key: value for key, value in everything(client).items() if key[6:] != b"{a}:t:z"}
        commands = (
            ("backfill", "--apply", "--orphans", "delete", "--ghosts", "drop"),
            ("persist", "--apply"),
            ("export",),
        )
        for command in commands:
            result = tool(*command, "--upstream", url(server))
            assert result.exit_code == 1, result.output
            assert "left alone" in result.stderr
            assert name in result.stderr
        audit = tool("audit", "--upstream", url(server), "--json")
        assert "ambiguous" in {finding["code"] for finding in json.loads(audit.stdout)["findings"]}
        after = everything(client)
        assert {key: after.get(key) for key in before if not key.endswith(b"{a}:t:z")} == {
            key: value for key, value in before.items() if not key.endswith(b"{a}:t:z")
        }
    told = tool("explain", "--queue", name, "--type", "x", "--state", "archived")
    assert "is left alone" in told.output


def test_queues_that_are_all_left_alone(server: Server) -> None:
    """Nobody says then that there is nothing of Asynq."""
    with server.client() as client:
        put(client, "x", "archived", now(client), queue="a}:t:zz")
        result = tool("audit", "--upstream", url(server))
        assert result.exit_code == 1
        assert "has no queue that can be looked at; left alone, since a name with }: can be read" in result.output
        assert "is not there" not in result.output


def test_a_task_of_five_megabytes(server: Server, tmp_path: Path) -> None:
    """It is exported whole, gets its TTL, and nobody is blamed for it."""
    with server.client() as client:
        put(client, "big", "archived", now(client) - DAY, payload=b"x" * 5_000_000)
        put(client, "done", "completed", now(client) + DAY, completed_at=now(client) - 60)
        client.hset(QUEUE + "t:done", "result", b"y" * 5_000_000)
        result = tool("export", "--upstream", url(server), "--payload", "text")
        assert result.exit_code == 0, result.output[-300:]
        found: dict[str, Any] = {line["id"]: line for line in map(json.loads, result.stdout.splitlines())}
        assert len(found["big"]["payload"]) == len(found["done"]["result"]) == 5_000_000
        assert "unreadable" not in tool("audit", "--upstream", url(server)).output
        backfill = tool("backfill", "--upstream", url(server), "--apply", policy=POLICY, folder=tmp_path)
        assert backfill.exit_code == 0, backfill.output
        assert ttl(client, "big") > 5 * DAY
        client.hset(QUEUE + "t:broken", mapping={"msg": b"\xff\xff", "state": "archived"})
        left = tool("export", "--upstream", url(server))
        assert (left.exit_code, "left out: 1 tasks" in left.stderr) == (1, True)


COMMANDS: list[list[str]] = [
    ["export"],
    ["audit"],
    ["audit", "--json"],
    ["doctor"],
    ["backfill"],
    ["persist"],
    ["explain", "--queue", "q", "--type", "t", "--state", "archived"],
]


@pytest.fixture(scope="module")
def filled() -> Iterator[Server]:
    """A server with some tasks."""
    with start_redis() as server, server.client() as client, client.pipeline() as pipeline:
        for number in range(2000):
            put(pipeline, f"task-{number}", "archived", 5, ttl=number % 2 * 5000, payload=b"x" * 200)
        pipeline.execute()
        yield server


def ended(command: list[str], server: Server, output: IO[bytes], folder: Path) -> tuple[int, list[str]]:
    """Run a command to its end; return its status and what it said on standard error."""
    upstream = [] if command[0] == "explain" else ["--upstream", server.url]
    with (folder / "errors").open("wb") as errors:
        status = launch([*command, *upstream], stdout=output, stderr=errors, env=os.environ).wait(100)
    return status, (folder / "errors").read_text().splitlines()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_nobody_reads_any_more(command: list[str], filled: Server, tmp_path: Path) -> None:
    """As after `| head -1`: the command ends without a word."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        status, errors = ended(command, filled, pipe, tmp_path)
    assert status == 141
    assert not [line for line in errors if "rror" in line or "cannot" in line or "pipe" in line], errors


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_standard_output_is_full(command: list[str], filled: Server, tmp_path: Path) -> None:
    """It is called that, in one line."""
    with Path("/dev/full").open("wb") as full:
        status, errors = ended(command, filled, full, tmp_path)
    assert status == 1
    assert errors[-1] == "standard output: No space left on device"


def test_a_file_is_full(filled: Server, tmp_path: Path) -> None:
    """Its name is told: that of an export, of a journal, of a page."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", small], check=False).returncode:
        small = Path("/dev")
    full = Path("/dev/full") if small == Path("/dev") else small / "file"
    try:
        commands: tuple[list[str | Path], ...] = (
            ["export", "--output", full],
            ["persist", "--journal", full],
            ["backfill", "--from-now", "--journal", full],
            ["audit", "--html", full],
        )
        for command in commands:
            full.unlink(missing_ok=True) if small != Path("/dev") else None
            result = tool(*command, "--upstream", filled.url)
            assert result.exit_code == 1, (command, result.output[-500:])
            assert f"{full}: No space left on device" in result.stderr.splitlines()[-1], result.stderr
            assert "cannot be reached" not in result.output
    finally:
        subprocess.run(["umount", small], check=False, stderr=subprocess.DEVNULL)


def test_one_node_of_a_cluster() -> None:
    """It shows a part of the keys: every tool refuses it and says why; `doctor` says what it is."""
    with start_redis("--cluster-enabled", "yes") as server, server.client() as client:
        client.execute_command("CLUSTER ADDSLOTS", *range(16384))
        wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", "the cluster is not up", 20)
        put(client, "a", "archived", 5, ttl=500)
        client.execute_command(*["ACL", "SETUSER", "few", "on", ">pw", "~asynq:*", "+@all", "-info"])
        for command in (("audit",), ("backfill",), ("persist",), ("export",)):
            for login in ("", "few:pw@"):
                result = tool(*command, "--upstream", f"redis://{login}127.0.0.1:{server.port}/0")
                assert (result.exit_code, result.stdout) == (1, ""), result.output
                assert "is a node of a cluster" in result.stderr
        assert tool("doctor", "--upstream", url(server)).exit_code == 4


def test_doctor_and_clients_of_a_unix_socket(server: Server) -> None:
    """Redis gives the path of its socket as their address: they are where a sidecar at the socket is."""
    names = ("asynq-ttl", "")
    clients = [Redis(unix_socket_path=str(server.socket), client_name=name or None) for name in names]
    try:
        with server.client() as client:
            put(client, "a", "archived", 5)
        clients[0].ping()
        sha = clients[1].script_load("return 1")
        clients[1].evalsha(str(sha), 0)
        result = tool("doctor", "--upstream", url(server), "--json")
        (bypass,) = [finding for finding in json.loads(result.stdout)["findings"] if finding["code"] == "bypass"]
        assert bypass["what"].endswith("come from where a sidecar is: unix socket"), bypass
    finally:
        for one in clients:
            one.close()
