"""Everything works under exactly the users that the documentation names; what is nice to have is done without."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from redis import Redis

from asynq_ttl.net.address import parse_address, parse_upstream
from asynq_ttl.sidecar.rights import missing, needs
from asynq_ttl.sidecar.settings import Settings
from asynq_ttl.sweep.sink import parse_sink
from asynq_ttl.upstream.endpoint import Endpoint
from support.asynq import Harness
from support.asynq_source import scripts
from support.documented_rights import rules_after, spared
from support.existing_keys import now, put, tool
from support.old_redis import REDIS_5, speaking
from support.servers import Server, Sidecar, SidecarFactory, connect, start_redis, start_valkey, wait_until

POLICY = """
version: 1
grace: 1s
rules:
  - {name: slow, match: {queue: [slow, waiting]}, archived: {ttl: 1h, max: 3}, completed: {ttl: 1h}}
  - {name: quick, archived: {ttl: 1s}, completed: {ttl: 1s}}
"""
# What Asynq asks by itself, besides what its scripts run.
ASYNQ = (
    "ping hello client select eval evalsha script sadd srem smembers sismember set get del exists publish subscribe "
    "psubscribe unsubscribe zadd zrem zrange zrangebyscore zcard zscore lrange llen hget hgetall expire expireat time "
    "info cluster"
)
SIDECAR = (
    "For the wrappers it needs ",
    "For the sweeper it needs ",
    "With `--sink` it needs ",
    "Bulk operations are told with task IDs and with what the tasks got only with ",
)
STARTS: dict[str, Callable[[], AbstractContextManager[Server]]] = {"redis": start_redis, "valkey": start_valkey}


def sidecar_rules() -> list[str]:
    """Return the rules of the sidecar's user."""
    return ["~asynq:*", "~asynq-ttl:*", *(rule for begin in SIDECAR for rule in rules_after("failure-modes.md", begin))]


def tools_rules() -> list[str]:
    """Return the rules of the user of the tools."""
    begins = ("The user in the URL needs ", "To change something it needs ")
    return ["~asynq:*", *(rule for begin in begins for rule in rules_after("existing-keys.md", begin))]


def worker_rules() -> list[str]:
    """Return the rules of the user of Asynq's clients."""
    texts = b"".join(scripts("v0.26.0").values()).decode()
    own = {name.lower() for name in re.findall(r"""call\(["'](\w+)["']""", texts)} | set(ASYNQ.split())
    return ["~asynq:*", "&*", *(f"+{name}" for name in own), *rules_after("failure-modes.md", "The wrappers need ")]


@contextmanager
def guarded(kind: str, *more: str) -> Iterator[tuple[Server, "Redis"]]:
    """Run a server whose users have what is documented, and yield it with a client that may do all.

    Args:
        kind: which server.
        more: rules of the sidecar's user and of that of the tools, besides what is documented.
    """
    with STARTS[kind]() as server, connect(port=server.port) as first:
        first.execute_command("ACL", "SETUSER", "admin", "on", ">pw", "~*", "&*", "+@all")
        for name, rules in (("sidecar", sidecar_rules()), ("tools", tools_rules())):
            first.execute_command("ACL", "SETUSER", name, "on", ">pw", *rules, *more)
        with connect(port=server.port, username="admin", password="pw") as admin:
            # Clients need no password, so that each way of starting one can be used.
            admin.execute_command("ACL", "SETUSER", "default", "reset", "on", "nopass", *worker_rules())
            admin.execute_command("ACL", "LOG", "RESET")
            yield server, admin


def url(server: Server, user: str, database: int = 0) -> str:
    """Return the URL of a database for a user."""
    return f"redis://{user}:pw@127.0.0.1:{server.port}/{database}"


def denied(admin: "Redis") -> set[str]:
    """Return what users were denied so far: their names, and what."""
    log: Any = admin.acl_log()
    return {f"{entry['username']} {entry['object']}" for entry in log}


def work(harness: Harness, sidecar: Sidecar) -> None:
    """Let Asynq do what moves tasks into their last states, and out of them."""
    fail = {"payload": '{"do": "skip"}'}
    harness.enqueue(
        sidecar.address,
        {"id": "done", "type": "x", "retention": "1h"},
        {"id": "dead", "type": "x", "unique": "1h", **fail},
        *({"id": f"slow-{number}", "type": "x", "queue": "slow", **fail} for number in range(5)),
        {"id": "slow-done", "type": "x", "queue": "slow", "retention": "1h"},
        {"id": "later", "type": "x", "process_in": "1h", "queue": "waiting"},
        {"id": "grouped", "type": "x", "group": "g", "queue": "waiting"},
    )
    harness.work(sidecar.address, "-queues", "default,slow")
    harness.inspect(
        sidecar.address,
        {"op": "queue_info", "queue": "default"},
        {"op": "archive_all", "queue": "waiting", "state": "scheduled"},
        {"op": "archive_all", "queue": "waiting", "state": "aggregating", "group": "g"},
        {"op": "run_all", "queue": "waiting", "state": "archived"},
        {"op": "archive_all", "queue": "waiting", "state": "pending"},
        {"op": "run_task", "queue": "waiting", "id": "later"},
        {"op": "archive_task", "queue": "waiting", "id": "later"},
        {"op": "delete_all", "queue": "waiting", "state": "archived"},
    )


def leave_a_ttl(admin: "Redis") -> None:
    """Leave a TTL on a task that waits, and on one that is about to be tried again."""
    for name, state in (("waits", "pending"), ("again", "retry")):
        put(admin, name, state, now(admin) + 9999 if state == "retry" else None, ttl=5000)
    admin.lpush("asynq:{default}:pending", "waits")


def healed(admin: "Redis") -> bool:
    """Say whether both are rid of it."""
    return all(admin.pttl(f"asynq:{{default}}:t:{name}") == -1 for name in ("waits", "again"))


def run_tools(upstream: str, folder: Path) -> None:
    """Run every tool that changes or reads tasks."""
    for number, command in enumerate(
        (
            ("audit",),
            ("audit", "--json"),
            ("backfill",),
            ("backfill", "--apply", "--journal", folder / "backfill"),
            ("persist",),
            ("persist", "--apply", "--journal", folder / "persist"),
            ("export", "--output", folder / "tasks"),
        )
    ):
        result = tool(*command, "--upstream", upstream)
        assert result.exit_code in (0, 3, 4), (number, command, result.output)


@pytest.mark.parametrize("kind", STARTS)
def test_everything_works_under_the_documented_users(
    kind: str, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """Asynq, the sweeper with a sink, healing, spans and every tool: nobody is denied anything."""
    with guarded(kind, *spared()) as (server, admin):
        sink = tmp_path / "sink"
        options = {"sweep_interval": "0.2", "sink": f"file:{sink}", "OTEL_TRACES_EXPORTER": "console"}
        sidecar = start_sidecar(url(server, "sidecar"), POLICY, admin="127.0.0.1:0", **options)
        with harness.serve(sidecar.address, "-quiet").process as worker:
            work(harness, sidecar)
            worker.terminate()
        leave_a_ttl(admin)
        wait_until(lambda: healed(admin), "the TTLs stay", 20)
        wait_until(lambda: not admin.exists("asynq:{default}:t:dead", "asynq:{default}:t:done"), "nothing is swept", 20)
        assert {json.loads(line)["id"] for line in sink.read_text().splitlines()} >= {"dead", "done"}
        wait_until(lambda: admin.zcard("asynq:{slow}:archived") == 3, "the cap does not hold", 20)
        assert 0 < admin.ttl("asynq:{slow}:t:slow-done") <= 7201  # a sink has at least an hour of grace
        with urlopen(f"http://{sidecar.admin}/readyz", timeout=10) as answer:
            assert answer.status == 200
        for database in (0, 3):
            admin.select(database)
            put(admin, "old", "archived", 5)
            put(admin, "timed", "archived", now(admin), ttl=500)
            run_tools(url(server, "tools", database), folder_in(tmp_path, database))
        sidecar.stop()
        assert denied(admin) == set()
        for user in ("sidecar", "tools"):
            found = json.loads(tool("doctor", "--json", "--upstream", url(server, user)).stdout)["findings"]
            bad = {
                finding["code"]
                for finding in found
                if finding["code"].startswith("rights-") and finding["severity"] not in ("fine", "notice")
            }
            assert not bad & (
                {"rights-sidecar", "rights-sweeper", "rights-lock"} if user == "sidecar" else {"rights-tools"}
            )


def folder_in(folder: Path, database: int) -> Path:
    """Make a folder for the files of a database."""
    made = folder / str(database)
    made.mkdir()
    return made


def misses_something(sidecar: Sidecar) -> bool:
    """Say whether it has said that its user lacks rights."""
    return "has not all the rights" in sidecar.log()


@pytest.mark.parametrize("right", ["+del", "+eval", "+script|load", "+ping", "~asynq-ttl:*"])
def test_a_right_that_is_missing_is_named(right: str, start_sidecar: SidecarFactory) -> None:
    """With one right less than documented: it starts, says which one in one line, and ends when it is asked to."""
    with guarded("redis") as (server, admin):
        put(admin, "due", "archived", 5, ttl=1)
        less = [rule for rule in sidecar_rules() if rule != right]
        admin.execute_command("ACL", "SETUSER", "less", "reset", "on", ">pw", *less, *spared())
        sidecar = start_sidecar(url(server, "less"), POLICY, sink="file:/dev/null", sweep_interval="0.2")
        sidecar.expected_warnings += ["not all the rights", "is down", "cannot be swept", "sweeping failed"]
        wait_until(partial(misses_something, sidecar), f"{right} is not missed")
        sidecar.stop()
    named = [line for line in sidecar.log().splitlines() if "has not all the rights" in line]
    assert [line.partition("give it ")[2] for line in named] == [right]
    assert "Traceback" not in sidecar.log()


async def test_every_right_that_is_documented_is_missed() -> None:
    """Each by itself, and no other with it."""
    with guarded("redis") as (server, admin):
        settings = Settings(
            parse_address("127.0.0.1:0"), parse_upstream(url(server, "less")), sink=parse_sink("file:/x")
        )
        rules = sidecar_rules()
        for right in sorted({rule for rule in rules if rule.startswith("+")}):
            less = [rule for rule in rules if rule != right]
            admin.execute_command("ACL", "SETUSER", "less", "reset", "on", ">pw", *less, *spared())
            client = Endpoint(settings.upstream).redis()
            assert await missing(client, needs(settings), 0) == right
            await client.aclose()


@pytest.mark.parametrize("kind", STARTS)
def test_what_is_nice_to_have_is_done_without(
    kind: str, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """Only that is denied, and the doctor names all of it."""
    with guarded(kind) as (server, admin):
        sidecar = start_sidecar(url(server, "sidecar"), POLICY, sweep_interval="0.2", admin="127.0.0.1:0")
        work(harness, sidecar)
        leave_a_ttl(admin)
        wait_until(lambda: healed(admin), "the TTLs stay", 20)
        with urlopen(f"http://{sidecar.admin}/readyz", timeout=10) as answer:
            assert answer.status == 200
        run_tools(url(server, "tools"), tmp_path)
        allowed = {rule.removeprefix("+") for rule in spared()}
        for entry in denied(admin):
            assert any(name.startswith(entry.split()[1]) for name in allowed), entry
        result = tool("doctor", "--json", "--upstream", url(server, "tools"))
        found = {finding["code"]: finding for finding in json.loads(result.stdout)["findings"]}
        assert found["rights-tools"]["severity"] == found["rights-changing"]["severity"] == "fine"
        for name in ("CLIENT SETNAME", "INFO", "CLIENT LIST", "CONFIG GET", "DBSIZE", "MEMORY USAGE"):
            assert name in found["rights-spared"]["what"]
        sidecar.stop()


def test_commands_that_were_renamed_are_done_without(
    harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """`rename-command` of what is only nice to have stops neither the sidecar nor a tool."""
    gone = ("CLIENT", "INFO", "MEMORY", "DBSIZE", "CONFIG", "HELLO")
    renames = [word for name in gone for word in ("--rename-command", name, "")]
    with start_redis(*renames) as server, connect(port=server.port, protocol=2) as client:
        put(client, "old", "archived", 5)
        sidecar = start_sidecar(server.url, POLICY, sweep_interval="0.2", admin="127.0.0.1:0")
        harness.enqueue(sidecar.address, {"id": "dead", "type": "x", "queue": "slow", "payload": '{"do": "skip"}'})
        harness.work(sidecar.address, "-queues", "default,slow")
        assert 0 < client.ttl("asynq:{slow}:t:dead") <= 3601
        with urlopen(f"http://{sidecar.admin}/readyz", timeout=10) as answer:
            assert answer.status == 200
        run_tools(server.url, tmp_path)
        result = tool("doctor", "--json", "--upstream", server.url)
        sidecar.stop()
    found = {finding["code"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert "the server does not know" in found["rights-spared"]["what"]
    assert found["rights-sweeper"]["severity"] == "fine"


def test_all_that_is_missing_is_named_at_once(server: Server, tmp_path: Path) -> None:
    """Also what a connection begins with, in a database that is not the first."""
    with server.client(2) as client:
        put(client, "old", "archived", 5)
        rules = ("on", ">pw", "~asynq:*", "+evalsha", "+zrange", "+script|load")
        client.execute_command("ACL", "SETUSER", "poor", *rules)
        try:
            refused = tool("persist", "--apply", "--upstream", url(server, "poor", 2))
            told = tool("doctor", "--json", "--upstream", url(server, "poor", 2))
        finally:
            client.acl_deluser("poor")
    assert (refused.exit_code, len(refused.output.splitlines())) == (1, 1), refused.output
    for rule in set(tools_rules()) - {"~asynq:*", "+evalsha", "+zrange", "+script|load"}:
        assert rule in refused.output.split(), (rule, refused.output)
    found = {finding["code"]: finding for finding in json.loads(told.stdout)["findings"]}
    assert "ZREVRANGE" in found["rights-sweeper"]["what"]
    assert "PING" in found["rights-sidecar"]["what"]
    assert found["policy"]["severity"] == "notice"
    assert told.exit_code == 4


def test_a_server_that_is_too_old_is_told_what_is_needed(start_sidecar: SidecarFactory) -> None:
    """Once in the log, by the probe, and by every tool in one line; the sidecar goes on trying."""
    line = "the server is Redis 5.0.14; asynq-ttl needs Redis 6.2 or later, or Valkey: "
    with speaking(REDIS_5) as (port, said):
        sidecar = start_sidecar(f"redis://127.0.0.1:{port}/0", sweep_interval="0.2", admin="127.0.0.1:0")
        sidecar.expected_warnings += ["is down", "sweeping failed"]
        wait_until(lambda: line in sidecar.log(), "it does not say so")
        asked = said.count("HELLO")
        wait_until(lambda: said.count("HELLO") > asked + 3, "it does not try again")
        with pytest.raises(HTTPError) as refused:
            urlopen(f"http://{sidecar.admin}/readyz", timeout=10)
        assert line in refused.value.read().decode()
        for command in ("audit", "backfill", "persist", "export", "doctor"):
            result = tool(command, "--upstream", f"redis://127.0.0.1:{port}/0")
            assert (result.exit_code, len(result.output.splitlines())) == (1, 1), result.output
            assert line in result.output
        sidecar.stop()
    assert sum(line in entry and "is down" in entry for entry in sidecar.log().splitlines()) == 1
