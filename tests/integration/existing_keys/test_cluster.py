"""The tools at real clusters: they see every master, name what cannot be read, and go on after a failover."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.cluster import RedisCluster

from asynq_ttl.existing_keys.audit import checkpoint as checkpoints
from asynq_ttl.existing_keys.cluster.database import ClusterDatabase
from asynq_ttl.existing_keys.pages import index_rounds
from asynq_ttl.existing_keys.queue_places import queue_places
from asynq_ttl.net.address import parse_upstream
from asynq_ttl.wire.cluster.slots import slot_of
from support.certificates import Authority
from support.cluster import KINDS, Cluster, Kind, Node, start_cluster
from support.commands import command_line
from support.existing_keys import DAY, journal_lines, put, tool
from support.servers import wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 7d}, completed: {ttl: 2h}}]"
QUEUES = ("default", "low", "mail", "other", "q3", "sms")
PART = ("--cluster-require-full-coverage", "no")
EACH = 60


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three masters."""
    with start_cluster(Kind(request.param)) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    """Three masters with archived tasks in six queues, and in each queue an orphan and a ghost."""
    fill(shared)
    return shared


def fill(cluster: Cluster, each: int = EACH) -> None:
    """Put tasks into an empty cluster."""
    for node in cluster.nodes[: cluster.kind.masters]:
        cluster.ask(node, "FLUSHALL")
    at = int(cluster.ask(cluster.nodes[0], "TIME")[0])
    with RedisCluster(host=cluster.kind.host, port=cluster.nodes[0].port) as client, client.pipeline() as pipeline:
        for queue in QUEUES:
            for number in range(each):
                put(pipeline, f"{queue}-{number}", "archived", at - DAY - number, queue=queue)
            put(pipeline, f"{queue}-orphan", "archived", None, queue=queue, last_failed_at=at - DAY)
            pipeline.zadd(f"asynq:{{{queue}}}:archived", {"ghost": at - DAY})
        pipeline.execute()


def names(queues: tuple[str, ...] = QUEUES) -> set[str]:
    """Return the IDs of all tasks of some queues."""
    return {f"{queue}-{number}" for queue in queues for number in (*range(EACH), "orphan")}


def owner(cluster: Cluster, queue: str) -> Node:
    """Return the master of a queue."""
    return cluster.owner(f"asynq:{{{queue}}}:")


def ttls(cluster: Cluster) -> dict[str, int]:
    """Return the TTLs of all task keys by IDs."""
    found = {}
    for queue in QUEUES:
        with cluster.client(owner(cluster, queue)) as client:
            for key in client.keys(f"asynq:{{{queue}}}:t:*"):
                found[key.decode().partition(":t:")[2]] = int(client.ttl(key))
    return found


def exported(cluster: Cluster, status: int) -> tuple[set[str], str]:
    """Export everything; return the IDs and what was said."""
    result = tool("export", "--upstream", cluster.url)
    assert result.exit_code == status, result.output
    ids = [json.loads(line)["id"] for line in result.stdout.splitlines()]
    assert len(ids) == len(set(ids))
    return set(ids), result.stderr


def audited(cluster: Cluster, status: int, *options: str | Path) -> dict[str, Any]:
    """Audit everything; return the report."""
    result = tool("audit", "--upstream", cluster.url, "--json", *options)
    assert result.exit_code == status, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_every_task_of_every_master(cluster: Cluster, tmp_path: Path) -> None:
    """Each tool sees it, and changes it at its master."""
    assert len({owner(cluster, queue).port for queue in QUEUES}) == 3
    ids, said = exported(cluster, 0)
    assert ids == names()
    assert "366 tasks written" in said
    report = audited(cluster, 3)
    problems = {finding["code"]: finding["count"] for finding in report["findings"]}
    assert (problems["ghost"], problems["orphan"], problems["untimed"]) == (6, 6, 366)
    assert {(group["queue"], group["tasks"]) for group in report["groups"]} == {(queue, EACH + 1) for queue in QUEUES}
    line = ("backfill", "--upstream", cluster.url, "--orphans", "ttl", "--ghosts", "drop")
    dry = tool(*line, policy=POLICY, folder=tmp_path)
    assert (dry.exit_code, "would change 372 tasks" in dry.output) == (0, True), dry.output
    assert set(ttls(cluster).values()) == {-1}
    journal = tmp_path / "journal"
    applied = tool(*line, "--apply", "--journal", journal, policy=POLICY, folder=tmp_path)
    assert applied.exit_code == 0, applied.output
    assert {line["id"] for line in journal_lines(journal)} == names() | {"ghost"}
    assert all(5 * DAY < ttl <= 6 * DAY + 3700 for ttl in ttls(cluster).values()), ttls(cluster)
    assert "ghost" not in {finding["code"] for finding in audited(cluster, 3)["findings"]}
    back = tool("persist", "--upstream", cluster.url, "--apply")
    assert (back.exit_code, set(ttls(cluster).values())) == (0, {-1}), back.output


def test_tasks_of_every_master_are_held_and_cleaned_away(cluster: Cluster, tmp_path: Path) -> None:
    """What is held stays; what is released goes like any other. Orphans are for `backfill`."""
    to = ("--upstream", cluster.url)
    for queue in QUEUES:
        held = tool("hold", queue, f"{queue}-0", f"{queue}-1", *to)
        assert (held.exit_code, held.output) == (0, f"{queue}-0  held\n{queue}-1  held\n")
        assert tool("release", queue, f"{queue}-1", *to).exit_code == 0
    line = ("clean", *to, "--state", "archived", "--apply", "--export", tmp_path / "gone")
    cleaned = tool(*line)
    assert (cleaned.exit_code, "6 that match are held, and stay" in cleaned.stderr) == (0, True), cleaned.output
    assert len((tmp_path / "gone").read_text().splitlines()) == len(QUEUES) * (EACH - 1)
    assert exported(cluster, 0)[0] == {f"{queue}-{name}" for queue in QUEUES for name in ("0", "orphan")}
    written = tool("init", *to, "--output", tmp_path / "start.yaml")
    assert written.exit_code == 0, written.output
    assert tool("check", tmp_path / "start.yaml").exit_code == 0


def test_where_a_task_of_a_cluster_is(cluster: Cluster) -> None:
    """Whichever master has it, with the name of its queue and without; and that nobody has it."""
    for queue in QUEUES:
        for options in ((), ("--queue", queue)):
            result = tool("why", f"{queue}-1", *options, "--upstream", cluster.url, "--json")
            assert result.exit_code == 0, result.output
            told = json.loads(result.stdout)
            assert (told["known"], told["whole"]) == (True, True), told
    nobody = tool("why", "nobody", "--upstream", cluster.url, "--json")
    assert nobody.exit_code == 3, nobody.output
    assert json.loads(nobody.stdout)["whole"] is True


def test_the_doctor_of_a_cluster(cluster: Cluster) -> None:
    """It tells nodes, roles, slots and what the sidecar needs; each server is checked."""
    result = tool("doctor", "--upstream", cluster.url, "--json")
    assert result.exit_code == 3, result.output
    found = {finding["code"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert found["cluster"]["what"] == "the cluster has 3 nodes, 3 of them masters and 0 replicas"
    assert any("a master with the slots 0-" in line for line in found["cluster"]["examples"])
    assert found["cluster-replicas"]["count"] == 3
    assert found["cluster-slots"]["severity"] == "fine"
    assert "--cluster-ports FROM-TO with 3 ports or more" in found["cluster-ports"]["what"]
    assert found["version"]["what"].startswith("all 3 nodes: ")
    assert found["clock"]["severity"] == found["rights-cluster"]["severity"] == "fine"
    assert [code for code, finding in found.items() if finding["severity"] not in ("fine", "notice")] == [
        "cluster-replicas"
    ]


def test_where_a_task_on_its_way_is(cluster: Cluster) -> None:
    """That its queue was not looked at is told, and the status says so."""
    slot, source, target = begin_move(cluster, "low")
    try:
        told = tool("why", "low-7", "--upstream", cluster.url)
        assert (told.exit_code, "on their way to another node: low." in told.output) == (1, True), told.output
    finally:
        for node in (source, target):
            cluster.ask(node, "CLUSTER", "SETSLOT", slot, "STABLE")


def test_one_node_of_it_is_refused(cluster: Cluster) -> None:
    """With the URL to give instead."""
    result = tool("audit", "--upstream", f"redis://127.0.0.1:{cluster.nodes[0].port}")
    assert result.exit_code == 1
    assert f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}" in result.stderr


def begin_move(cluster: Cluster, queue: str) -> tuple[int, Node, Node]:
    """Let the slot of a queue be on its way; return it, and from where to where."""
    slot, source = slot_of(b"asynq:{%s}:" % queue.encode()), owner(cluster, queue)
    target = next(node for node in cluster.nodes if node.slots and node is not source)
    cluster.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    cluster.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
    return slot, source, target


def test_a_slot_on_its_way(cluster: Cluster, tmp_path: Path) -> None:
    """Its queue is named and not touched, wherever its keys are; the others are dealt with."""
    others = tuple(queue for queue in QUEUES if queue != "low")
    slot, source, target = begin_move(cluster, "low")
    try:
        with cluster.client(source) as client:
            gone = [f"asynq:{{low}}:t:low-{number}" for number in range(20)]
            client.execute_command("MIGRATE", "127.0.0.1", target.plain_port, "", 0, 5000, "KEYS", *gone)
        ids, said = exported(cluster, 1)
        assert ids == names(others)
        assert "on their way to another node: low" in said
        report = audited(cluster, 3)
        found = {finding["code"]: finding for finding in report["findings"]}
        assert found["moving"]["examples"] == ["low"]
        assert (found["ghost"]["count"], found["orphan"]["count"]) == (5, 5)
        assert "lost" not in found
        line = ("backfill", "--upstream", cluster.url, "--orphans", "delete", "--ghosts", "drop", "--apply")
        applied = tool(*line, policy=POLICY, folder=tmp_path)
        assert (applied.exit_code, "low" in applied.stderr) == (1, True), applied.output
        back = tool("persist", "--upstream", cluster.url, "--apply", "--queue", "low")
        assert (back.exit_code, "low" in back.stderr) == (1, True), back.output
        assert cluster.ask(source, "ZCARD", "asynq:{low}:archived") == EACH + 1
    finally:
        cluster.move_slot(slot, source, target)
    ids, _ = exported(cluster, 0)
    assert names(("low",)) <= ids
    cluster.move_slot(slot, target, source)


def test_a_slot_sets_off_in_the_middle(cluster: Cluster) -> None:
    """What is read then is named, and nothing that has gone looks like a ghost."""
    database = ClusterDatabase(parse_upstream(cluster.url))
    queues = database.open()
    places = [place for place in queue_places(database, queues, ["archived"]) if place.queue in ("low", "mail")]
    slot, source, target = begin_move(cluster, "low")
    try:
        with cluster.client(source) as client:
            key = "asynq:{low}:t:low-7"
            client.execute_command("MIGRATE", "127.0.0.1", target.plain_port, "", 0, 5000, "KEYS", key)
        entries = [entry for pages in index_rounds(database, places) for page in pages for entry in page.entries]
        assert {entry.task.queue for entry in entries if not entry.task.exists} <= {"mail"}
        assert len([entry for entry in entries if entry.task.queue == "mail"]) == EACH + 1
        assert database.left_out.moving == ["low"]
    finally:
        cluster.move_slot(slot, source, target)
        cluster.move_slot(slot, target, source)
        database.close()


@pytest.mark.parametrize(
    ("which", "server"), [("mail", "redis"), ("asynq:queues", "path-redis"), ("asynq:queues", "valkey")]
)
def test_a_master_is_stopped(which: str, server: str, tmp_path: Path) -> None:
    """It is named, the exit status says so, and what the others say is told; also where it has the queues' names."""
    with start_cluster(Kind(server, options=PART)) as cluster:
        fill(cluster)
        dead = cluster.owner(which) if ":" in which else owner(cluster, which)
        left = tuple(queue for queue in QUEUES if owner(cluster, queue) != dead)
        cluster.kill(dead)
        assert 0 < len(left) < len(QUEUES)
        ids, said = exported(cluster, 1)
        assert ids == names(left)
        assert f"cannot be read, so what it has is not in this: node 127.0.0.1:{dead.port}" in said
        report = audited(cluster, 3)
        found = {finding["code"]: finding for finding in report["findings"]}
        assert f":{dead.port}" in found["unread"]["examples"][0]
        assert {group["queue"] for group in report["groups"]} == set(left)
        assert "lost" not in found
        written = tool("init", "--upstream", cluster.url)
        assert (written.exit_code, f":{dead.port}" in written.stderr) == (1, True), written.output
        line = ("backfill", "--upstream", cluster.url, "--orphans", "ttl", "--ghosts", "drop", "--apply")
        applied = tool(*line, policy=POLICY, folder=tmp_path)
        assert (applied.exit_code, f":{dead.port}" in applied.stderr) == (1, True), applied.output
        assert f"{(EACH + 2) * len(left):,} tasks" in applied.output
        back = tool("persist", "--upstream", cluster.url, "--apply")
        assert (back.exit_code, f":{dead.port}" in back.stderr) == (1, True), back.output
        told = tool("doctor", "--upstream", cluster.url, "--json")
        codes = {finding["code"]: finding for finding in json.loads(told.stdout)["findings"]}
        assert (told.exit_code, codes["cluster-away"]["count"], codes["cluster-unread"]["count"]) == (3, 1, 1)


def test_a_cluster_that_is_down() -> None:
    """Where it wants all its slots, every master says so, and each is named."""
    with start_cluster(Kind()) as cluster:
        fill(cluster)
        cluster.kill(owner(cluster, "mail"))
        alive = cluster.alive()
        wait_until(
            lambda: all(b"cluster_state:fail" in cluster.ask(node, "CLUSTER", "INFO") for node in alive), "it is up", 40
        )
        ids, said = exported(cluster, 1)
        assert ids == set()
        assert all(f"node 127.0.0.1:{node.port}" in said for node in cluster.nodes)


def wait_for_replicas(cluster: Cluster) -> None:
    """Wait until replicas have what their masters have."""
    for master in cluster.nodes[: cluster.kind.masters]:
        with cluster.client(master) as client:
            client.wait(1, 20_000)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("killed", "server"), [(True, "path-redis"), (False, "valkey")], ids=["killed", "a master away"]
)
def test_a_failover_between_two_runs(killed: bool, server: str, tmp_path: Path) -> None:
    """The second run ends the work of the first, which was killed, or could not read the master that has died."""
    with start_cluster(Kind(server, replicas=1, options=PART)) as cluster:
        fill(cluster)
        (tmp_path / "policy.yaml").write_text(POLICY)
        journal = tmp_path / "journal"
        line: list[str | Path] = ["backfill", "--upstream", cluster.url, "--journal", journal, "--apply"]
        line += ["--policy", tmp_path / "policy.yaml", "--orphans", "ttl", "--ghosts", "drop"]
        wait_for_replicas(cluster)
        if killed:
            command = command_line(*line, "--rate", "200")
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            wait_until(lambda: journal.exists() and len(journal_lines(journal)) > 60, "it does nothing", 60)
            process.send_signal(signal.SIGKILL)
            output, _ = process.communicate()
            assert process.returncode == -signal.SIGKILL, output
            wait_for_replicas(cluster)
        else:
            cluster.kill(owner(cluster, "mail"))
            first = tool(*line)
            assert (first.exit_code, "--resume" in first.stderr) == (1, True), first.output
        if killed:
            cluster.kill(owner(cluster, "mail"))
        wait_until(lambda: owner(cluster, "mail") in cluster.alive() and cluster.is_whole(), "no failover", 60)
        again = tool(*line, "--resume")
        assert again.exit_code == 0, again.output
        assert set(ttls(cluster)) == names()
        assert all(ttl > 5 * DAY for ttl in ttls(cluster).values())
        changed = [(change["queue"], change["id"]) for change in journal_lines(journal)]
        assert len(changed) == len(set(changed)) == len(names()) + len(QUEUES)
        assert tool(*line, "--resume").exit_code == 1


@pytest.mark.timeout(240)
@pytest.mark.parametrize("server", ["path-redis", "valkey"])
def test_a_failover_between_two_audits(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one goes on from the checkpoint of the first, and no task is counted twice or not at all."""
    monkeypatch.setattr(checkpoints, "_SAVE_SECONDS", 0)
    with start_cluster(Kind(server, replicas=1, options=PART)) as cluster:
        fill(cluster, 700)
        wait_for_replicas(cluster)
        file = tmp_path / "checkpoint"
        command = command_line("audit", "--upstream", cluster.url, "--checkpoint", file, "--rate", "300")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        wait_until(lambda: _is_within(file) or process.poll() is not None, "there is no checkpoint", 60)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        saved = json.loads(file.read_text())
        assert 0 < saved["tally"]["keys"] < 4200
        stopped = next(node for node in cluster.nodes if node.id == saved["cursor"].split(" ")[1])
        cluster.kill(stopped)
        replica = cluster.replica_of(stopped)
        wait_until(lambda: cluster.ask(replica, "ROLE")[0] == b"master" and cluster.is_whole(), "no failover", 60)
        report = audited(cluster, 3, "--checkpoint", file)
        assert report["time"] == saved["now"]
        assert {(group["queue"], group["tasks"]) for group in report["groups"]} == {(queue, 701) for queue in QUEUES}
        assert not file.exists()


def _is_within(file: Path) -> bool:
    """Say whether a checkpoint stands within what a master has, and another one has been walked through."""
    if not file.exists():
        return False
    cursor = json.loads(file.read_text())["cursor"]
    return isinstance(cursor, str) and not cursor.startswith("0 ") and cursor.split(" ")[4] != "-"


def test_a_cluster_with_tls_and_a_password(tmp_path: Path) -> None:
    """The options of the URL hold for each node."""
    authority = Authority(tmp_path)
    authority.issue("127.0.0.1", "localhost")
    with start_cluster(Kind(password="sesame", authority=authority)) as cluster:
        at = int(cluster.ask(cluster.nodes[0], "TIME")[0])
        for queue in QUEUES:
            with cluster.client(owner(cluster, queue)) as client:
                client.hset(f"asynq:{{{queue}}}:t:a", mapping={"msg": b"", "state": "archived"})
                client.zadd(f"asynq:{{{queue}}}:archived", {"a": at})
            with cluster.client(cluster.owner("asynq:queues")) as client:
                client.sadd("asynq:queues", queue)
        url = cluster.url_of(":sesame@", f"?ssl_ca_certs={authority.file}")
        result = tool("audit", "--upstream", url, "--json")
        assert {group["queue"] for group in json.loads(result.stdout)["groups"]} == set(QUEUES), result.output
        told = tool("doctor", "--upstream", url, "--json")
        codes = {finding["code"] for finding in json.loads(told.stdout)["findings"]}
        assert {"cluster", "cluster-slots"} <= codes
        assert "cluster-tls" not in codes
        wrong = tool("audit", "--upstream", cluster.url_of(":wrong@", f"?ssl_ca_certs={authority.file}"))
        assert wrong.exit_code == 1
        assert "sesame" not in wrong.output + told.output + result.output
        assert "wrong" not in wrong.stderr.replace("WRONGPASS", "")
