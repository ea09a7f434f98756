"""An upstream behind real Sentinels: found, followed, and no task lost when the master dies under load."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis as redis_py

from support.asynq import Harness
from support.existing_keys import tool
from support.sentinels import FAILOVER, MASTER, Setup, Watched, follow, start_watched
from support.servers import SidecarFactory, free_port, wait_until
from trials.chaos import account
from trials.chaos.account import Accepted, Ledger
from trials.chaos.census import Census, Task
from trials.chaos.trial import Plan, report_of

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 1h}}]"


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A master, a replica and three Sentinels."""
    with start_watched(tmp_path) as found:
        yield found


@pytest.mark.timeout(180)
def test_a_failover_under_load_loses_no_task(harness_program: Path, tmp_path: Path) -> None:
    """The master is killed and comes back empty: every accepted task is where it may be, and in the end at its end."""
    report = report_of(Plan("sidecar", "kill", tasks=1500, hasten=True, server="redis", folder=tmp_path))
    assert report.faults == []
    assert (report.accepted, report.lost) == (1500, 0)
    assert report.acknowledged > 1000
    assert min(report.places.values()) > 200
    # What the worker had at hand when the master died, at the most.
    assert report.active <= 11


@pytest.mark.timeout(180)
def test_a_failover_that_is_asked_for_loses_nothing_at_all(harness_program: Path, tmp_path: Path) -> None:
    """The old master takes nothing any more that the new one does not get, acknowledged or not."""
    report = report_of(Plan("sidecar", "ask", tasks=1000, hasten=True, server="valkey", folder=tmp_path))
    assert report.faults == []
    assert (report.accepted, report.unreplicated) == (1000, 0)


# --- the account --------------------------------------------------------------------------------------------


def _sound() -> tuple[Ledger, Census]:
    """Return a ledger and what it has led to, without a fault."""
    ledger, hour = Ledger(), 3_600_000
    for name, ends in {"a": "archived", "c": "completed", "g": "gone"}.items():
        ledger.accepted[name] = Accepted(100, ends, acknowledged=True)
    ledger.outcomes["g"]["ok"] += 1
    tasks = {
        "a": Task("archived", has_message=True, ttl_ms=hour),
        "c": Task("completed", has_message=True, ttl_ms=hour),
    }
    return ledger, Census(
        "load", tasks, {"archived": ["a"], "completed": ["c"], "active": [], "lease": [], "pending": []}
    )


def _kinds(ledger: Ledger, census: Census, *, over: bool = True) -> list[str]:
    settled = account.settle(ledger, census, moved_ms=200, kept=lambda _id, _state: 3600, grace=60, over=over)
    return sorted(fault.kind for fault in settled.faults)


def test_the_account_of_what_is_as_it_should_be() -> None:
    """Nothing is wrong with it."""
    assert _kinds(*_sound()) == []


def test_the_account_misses_no_lost_task() -> None:
    """Neither one that the replica had, nor one that the new master took, nor one that never succeeded."""
    for name in "acg":
        ledger, census = _sound()
        census.tasks.pop(name, None)
        census.indexes["archived"].clear()
        census.indexes["completed"].clear()
        ledger.outcomes.clear()
        census.tasks.clear()
        ledger.accepted = {name: ledger.accepted[name]}
        assert _kinds(ledger, census) == ["lost"]
        ledger.accepted[name] = Accepted(150, ledger.accepted[name].ends, acknowledged=False)
        assert _kinds(ledger, census) == []
        ledger.accepted[name] = Accepted(250, ledger.accepted[name].ends, acknowledged=False)
        assert _kinds(ledger, census) == ["lost"]


def test_the_account_misses_no_disorder() -> None:
    """Index and hash that disagree, TTLs that are missing or should be, what has not ended or has ended otherwise."""
    ledger, census = _sound()
    census.tasks["a"] = Task("archived", has_message=True, ttl_ms=-1)
    census.tasks["c"] = Task("completed", has_message=False, ttl_ms=9_999_999)
    assert _kinds(ledger, census) == ["half", "overtimed", "untimed"]
    ledger, census = _sound()
    census.indexes["active"] = census.indexes["lease"] = ["g"]
    assert _kinds(ledger, census) == ["ghost", "ghost", "unfinished"]
    census.tasks["g"] = Task("active", has_message=True, ttl_ms=5)
    assert _kinds(ledger, census) == ["live-ttl", "unended", "unfinished"]
    assert _kinds(ledger, census, over=False) == ["live-ttl"]
    census.indexes["active"] = census.indexes["lease"] = []
    assert "orphan" in _kinds(ledger, census, over=False)
    ledger, census = _sound()
    ledger.accepted["a"] = Accepted(100, "gone", acknowledged=True)
    assert _kinds(ledger, census) == ["unended"]


# --- following ----------------------------------------------------------------------------------------------


SETUPS = {
    "a user, a database and passwords": Setup(
        password="secret", sentinel_password="hush", options=("--user", "app", "on", ">word", "~*", "&*", "+@all")
    ),
    "host names": Setup(host="localhost", kind="valkey"),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", SETUPS)
def test_another_master_is_ready_before_clients_get_there(
    name: str, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """Wrappers are loaded, TTLs are set and due tasks are swept there, whatever the Sentinels are like."""
    setup = SETUPS[name]
    secret = tmp_path / "sentinel-password"
    secret.write_text("hush\n")
    with start_watched(tmp_path, setup) as watched:
        options = {"sweep_interval": "0.25"}
        if setup.password:
            url = watched.url_of("app:word@", 3, f"sentinel_password_file={secret}")
            options["client_auth"] = "none"
        else:
            url = watched.url_of(database=3)
        policy = "version: 1\ngrace: 1s\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 1s}}]"
        sidecar = start_sidecar(url, policy, **options)
        follow(sidecar, watched, harness)
        sidecar.stop()


@pytest.mark.timeout(120)
def test_an_old_master_that_hangs_is_let_go(watched: Watched, start_sidecar: SidecarFactory) -> None:
    """A client that waits for a master that does not answer is hung up on, and reaches the new one by itself."""
    sidecar = start_sidecar(watched.url, POLICY)
    sidecar.expected_warnings += FAILOVER
    old = watched.master()
    with sidecar.client() as client, ThreadPoolExecutor(1) as thread:
        assert client.set("before", "1")
        old.process.send_signal(signal.SIGSTOP)
        try:
            # redis-py sends it again when it is hung up on: it is the new master that has the answer.
            answer = thread.submit(client.blpop, ["list"], timeout=30)
            wait_until(lambda: "has moved from" in sidecar.log(), "the sidecar does not follow", 30)
            wait_until(lambda: watched.master() is not old, "there was no failover", 30)
            with watched.master().client() as direct:
                direct.rpush("list", "x")
            assert answer.result() == (b"list", b"x")
        finally:
            old.process.send_signal(signal.SIGCONT)
        assert client.get("before") == b"1"
        assert client.set("after", "2")
        assert client.execute_command("ROLE")[0] == b"master"
    with watched.master().client() as direct:
        assert direct.get("after") == b"2"


@pytest.mark.timeout(120)
def test_a_sentinel_that_was_cut_off_does_not_lead_back(watched: Watched, start_sidecar: SidecarFactory) -> None:
    """It still names the old master, which is back and says that it is a master: nobody goes there."""
    sidecar = start_sidecar(watched.url, POLICY)
    sidecar.expected_warnings += (*FAILOVER, "does not help")
    old, former_view = watched.master(), watched.configuration(0).read_text()
    watched.processes[0].kill()
    watched.processes[0].wait()
    try:
        old.process.kill()
        old.process.wait()
        wait_until(lambda: "has moved from" in sidecar.log(), "the sidecar does not follow", 30)
        with watched.return_of(old) as back, back.client() as former:
            # Nobody else may tell it what has happened meanwhile.
            for other in watched.processes[1:]:
                other.send_signal(signal.SIGSTOP)
            watched.configuration(0).write_text(former_view)
            watched.start_sentinel(0)
            wait_until(lambda: f"Sentinel 127.0.0.1:{watched.sentinels[0]} is back" in sidecar.log(), "it is not heard")
            assert int(watched.ask(0, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)[1]) == old.port
            time.sleep(1.5)
            with sidecar.client() as client:
                assert client.set("key", "value")
            assert not former.dbsize()
            for other in watched.processes[1:]:
                other.send_signal(signal.SIGCONT)
            # One that starts now hears all three, and believes the newest.
            second = start_sidecar(watched.url, POLICY)
            with second.client() as client:
                assert client.get("key") == b"value"
            second.stop()
    finally:
        for process in watched.processes:
            process.send_signal(signal.SIGCONT)


@pytest.mark.timeout(60)
def test_without_sentinels_it_stays_where_it_is(watched: Watched, start_sidecar: SidecarFactory) -> None:
    """All Sentinels die and the master lives: clients notice nothing, and `doctor` tells who is away."""
    sidecar = start_sidecar(watched.url, POLICY)
    sidecar.expected_warnings.append("does not help")
    with sidecar.client() as client:
        client.sadd("asynq:queues", "default")
        found = tool("doctor", "--upstream", watched.url).output
        assert "3 Sentinels say that the master is" in found
        watched.processes[0].kill()
        watched.processes[0].wait()
        found = tool("doctor", "--upstream", watched.url).output
        assert "1 of the 3 Sentinels in the URL do not help" in found
        for process in watched.processes[1:]:
            process.kill()
        wait_until(lambda: sidecar.log().count("does not help") == 3, "it does not notice")
        assert client.set("key", "value")
        with sidecar.client() as another:
            assert another.get("key") == b"value"


def test_without_any_sentinel_clients_are_told_why(start_sidecar: SidecarFactory) -> None:
    """It starts, and says what is missing; a Sentinel that does not know the master is named."""
    sidecar = start_sidecar(f"redis+sentinel://127.0.0.1:{free_port()}/{MASTER}", POLICY)
    sidecar.expected_warnings += ("is down", "does not help", "sweeping failed")
    with (
        sidecar.client() as client,
        pytest.raises(redis_py.RedisError, match=f"no Sentinel has said yet where {MASTER}"),
    ):
        client.ping()


@pytest.mark.timeout(60)
def test_a_master_that_cannot_be_used(watched: Watched, start_sidecar: SidecarFactory) -> None:
    """The Sentinels' own words are in the log, and so are Redis's. One Sentinel that is away does not matter."""
    sidecar = start_sidecar(watched.url.replace(MASTER, "another"), POLICY)
    sidecar.expected_warnings += ("is down", "does not help", "sweeping failed")
    wait_until(lambda: sidecar.log().count("does not help: No such master") == 3, "they are not asked")
    away = watched.url.replace("redis+sentinel://", f"redis+sentinel://127.0.0.1:{free_port()},")
    other = start_sidecar(away, POLICY)
    other.expected_warnings.append("does not help")
    with other.client() as client:
        assert client.ping()
    stranger = start_sidecar(watched.url_of("nobody:wrong@"), POLICY)
    stranger.expected_warnings += ("is down", "cannot be used: invalid username-password pair", "sweeping failed")
    wait_until(lambda: "cannot be used" in stranger.log(), "it is not told")
    with stranger.client() as client, pytest.raises(redis_py.RedisError, match="but invalid username-password pair"):
        client.ping()
