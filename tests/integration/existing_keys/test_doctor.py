"""A doctor's findings say what, why and what to do; each trouble of a set-up is found."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from support.asynq import Harness
from support.existing_keys import everything, now, put, tool, url
from support.servers import Server, SidecarFactory, start_redis, start_valkey, wait_until

POLICY = """
version: 1
rules:
  - {name: mail, match: {type: "mail:*"}, archived: {ttl: 10m}}
  - {name: mial, match: {type: "mial:*"}, archived: {ttl: 7d}}
"""


def findings(server: Server, *options: str | Path, policy: str | None = None, folder: Path | None = None) -> Any:
    """Run the doctor; return its findings by code, and its status."""
    result = tool("doctor", "--upstream", url(server), "--json", *options, policy=policy, folder=folder)
    assert result.exit_code in (0, 3, 4), result.output
    content = json.loads(result.stdout)
    for finding in content["findings"]:
        assert finding["what"], finding
        assert finding["severity"] == "fine" or (finding["why"] and finding["advice"]), finding
    return {finding["code"]: finding for finding in content["findings"]}, result.exit_code


def test_a_healthy_set_up(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """All is well where Asynq works through a sidecar; what was looked at is told, and nothing is changed."""
    sidecar = start_sidecar(server.url)
    with harness.serve(sidecar.address, "-quiet").process, server.client() as client:
        harness.enqueue(sidecar.address, {"type": "x", "payload": '{"do": "skip"}'})
        time.sleep(1.5)
        before = everything(client).keys()
        found, status = findings(server)
        assert everything(client).keys() == before
        harness.__exit__(None, None, None)
    assert status == 0, found
    assert {"version", "eviction", "script-cache", "topology", "rights-wrappers", "clock", "bypass", "policy"} <= set(
        found
    )
    assert {finding["severity"] for finding in found.values()} == {"fine"}
    assert "where a sidecar is" in found["bypass"]["what"]
    text = tool("doctor", "--upstream", url(server)).output
    assert "fine" in text


def test_a_key_of_a_megabyte_holds_nobody_up(server: Server) -> None:
    """Whatever it is called: Redis looks at each byte of a name once, not once for each other byte."""
    with server.client() as client:
        for name in (b"{" * 1_000_000, b"}:t" * 400_000, b"{}:t:" * 200_000):
            client.set(name, "x")
        put(client, "a", "archived", now(client))
        client.hset("myapp:asynq:{q}:t:1", mapping={"msg": "m", "state": "pending"})
        found, _ = findings(server)
        assert "myapp:asynq:{" in str(found["prefix"])


@pytest.mark.parametrize(
    ("policy", "limit", "status", "severity"),
    [("volatile-lru", "0", 3, "warning"), ("allkeys-lru", "100mb", 4, "danger"), ("noeviction", "0", 0, "fine")],
)
def test_eviction(policy: str, limit: str, status: int, severity: str) -> None:
    """Policies that evict keys with a TTL, or any, are explained."""
    with start_redis("--maxmemory-policy", policy, "--maxmemory", limit) as server, server.client() as client:
        put(client, "a", "archived", now(client))
        found, code = findings(server)
    assert (found["eviction"]["severity"], code) == (severity, status)


def test_a_replica() -> None:
    """A replica is a danger, and its master is named."""
    with start_redis() as master, master.client() as client:
        put(client, "a", "archived", now(client))
        with start_redis() as replica, replica.client() as other:
            other.replicaof("127.0.0.1", master.port)
            wait_until(lambda: other.exists("asynq:queues"), "nothing is replicated", 30)
            found, status = findings(replica)
    assert status == 4
    assert str(master.port) in found["topology"]["advice"]


def test_rights_that_the_sidecar_lacks() -> None:
    """Commands that wrappers and the sweeper need are named with what grants them."""
    with start_valkey() as server, server.client() as client:
        put(client, "a", "archived", now(client))
        rules = "on >pw ~asynq:* ~asynq-ttl:* +@all -pexpire -lindex"
        client.execute_command("ACL", "SETUSER", "narrow", *rules.split())
        client.execute_command("ACL", "SETUSER", "unlocked", "on", ">pw", "~asynq:*", "+@all")
        narrow = json.loads(
            tool("doctor", "--json", "--upstream", f"redis://narrow:pw@127.0.0.1:{server.port}/0").stdout
        )
        unlocked = tool("doctor", "--upstream", f"redis://unlocked:pw@127.0.0.1:{server.port}/0")
    found = {finding["code"]: finding for finding in narrow["findings"]}
    assert "LINDEX, PEXPIRE" in found["rights-wrappers"]["what"]
    assert "+lindex +pexpire" in found["rights-wrappers"]["advice"]
    assert found["rights-sweeper"]["what"].endswith("may not run PEXPIRE")
    assert found["rights-lock"]["severity"] == "fine"
    assert unlocked.exit_code == 3
    assert "~asynq-ttl:*" in unlocked.output


def test_clients_past_the_sidecar(server: Server, harness: Harness) -> None:
    """Where no sidecar is connected, and clients of Asynq are, it says so."""
    worker = harness.serve(f"127.0.0.1:{server.port}", "-quiet")
    harness.enqueue(f"127.0.0.1:{server.port}", {"type": "x", "process_in": "1h"})
    time.sleep(1.2)
    found, status = findings(server)
    worker.kill()
    assert status == 3
    assert "no sidecar is connected" in found["bypass"]["what"]


def test_the_policy_against_what_exists(server: Server, tmp_path: Path) -> None:
    """Rules without tasks, types without rules, and times shorter than locks and retries."""
    with server.client() as client:
        start = now(client)
        put(
            client, "a", "retry", start + 7200, task_type="mail:send", lock=True, unique_key=b"asynq:{default}:unique:a"
        )
        put(client, "b", "archived", start, task_type="sms:send")
        found, status = findings(server, policy=POLICY, folder=tmp_path)
    assert status == 3
    assert "mial" in found["idle-rules"]["what"]
    assert "mail" not in found["idle-rules"]["what"].replace("mial", "")
    assert "default: sms:send (archived)" in found["unmatched-types"]["examples"]
    assert "mail:send is kept for 10m by rule mail, against 59m" in found["shorter-than-lock"]["examples"][0]
    assert "against 2h" in found["shorter-than-retry"]["examples"][0].replace("1h59m59s", "2h")


def test_many_scripts(redis_server: Server) -> None:
    """A client that makes up script texts is suspected."""
    with redis_server.client() as client:
        put(client, "a", "archived", now(client))
        flood(client)
        found, status = findings(redis_server)
        client.script_flush()
    assert (found["script-cache"]["severity"], status) == ("warning", 3)


def flood(client: "Redis") -> None:
    """Load many scripts."""
    for number in range(600):
        client.script_load(f"return {number}")


def test_keys_of_the_wrong_type(server: Server) -> None:
    """They are named with both types, and everything else is looked at."""
    with server.client() as client:
        put(client, "a", "archived", now(client), lock=True, unique_key=b"asynq:{default}:unique:a")
        put(client, "b", "completed", None)
        client.delete("asynq:{default}:unique:a")
        for key in ("asynq:{default}:completed", "asynq:{aaa}:completed", "asynq:{default}:t:odd"):
            client.rpush(key, "x")
        client.sadd("asynq:{default}:unique:a", "x")
        client.sadd("asynq:queues", "aaa")
        found, status = findings(server)
        assert status == 3
        assert found["key-types"]["count"] == 2
        assert found["key-types"]["examples"][0] == "asynq:{aaa}:completed is a list, not a zset"
        assert {"clock", "unmatched-types", "policy"} & set(found)
        client.delete("asynq:queues")
        client.set("asynq:queues", "x")
        found, status = findings(server)
    # The queues are known by their keys then.
    assert status == 3
    assert found["key-types"]["count"] == 3
    assert "asynq:queues is a string, not a set" in found["key-types"]["examples"]


def test_a_user_who_may_not_ask_for_types(server: Server) -> None:
    """Then they are not checked, and that is said."""
    with server.client() as client:
        put(client, "a", "archived", now(client))
        client.execute_command("ACL", "SETUSER", "narrow", "on", ">pw", "~*", "+@all", "-type")
        result = tool("doctor", "--json", "--upstream", f"redis://narrow:pw@127.0.0.1:{server.port}/0")
        client.execute_command("ACL", "DELUSER", "narrow")
    found = {finding["code"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert found["key-types"]["what"] == "not checked: the user may not run TYPE"
