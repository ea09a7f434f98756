"""What the commands about existing keys share: what is understood, and what ends them with one line."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from asynq_ttl.cli import tool_options
from asynq_ttl.cli.tool_options import (
    Duration,
    check_types,
    connected,
    note,
    queue_option,
    rate_option,
    state_option,
    upstream_option,
)
from asynq_ttl.existing_keys.clients import DatabaseError
from asynq_ttl.existing_keys.cluster.database import ClusterDatabase
from asynq_ttl.existing_keys.database import Cursor
from asynq_ttl.existing_keys.pages import TaskFilter
from asynq_ttl.net.address import Upstream, parse_upstream
from asynq_ttl.policy.glob import Glob, compile_glob
from support.scripted_cluster import scripted_cluster
from support.scripted_database import ScriptedDatabase, task_of
from support.servers import free_port

SEEN: list[tuple[Upstream, tuple[Glob, ...], tuple[str, ...], int, float]] = []


@click.command()
@upstream_option
@queue_option
@state_option(("archived", "completed"))
@click.option("--age", type=Duration())
@rate_option
def command(*, upstream: Upstream, queues: tuple[Glob, ...], states: tuple[str, ...], age: int, rate: float) -> None:
    """Remember what it is given."""
    SEEN.append((upstream, queues, states, age, rate))


def refused(*line: str) -> str:
    """Return what is said of a command line that is wrong."""
    result = CliRunner().invoke(command, line)
    assert result.exit_code == 2
    return " ".join(result.output.replace("│", " ").split())


def test_what_is_typed_is_understood() -> None:
    """Repeatable options are tuples, a duration is seconds, and the rate has a default."""
    SEEN.clear()
    line = ["--queue", "a*", "--queue", "b", "--state", "archived", "--age", "1d12h", "--upstream", "redis://h/2"]
    assert CliRunner().invoke(command, line).exit_code == 0
    ((upstream, queues, states, age, rate),) = SEEN
    assert (upstream.database, [glob.text for glob in queues], states) == (2, ["a*", "b"], ("archived",))
    assert (age, rate) == (129_600, 30_000.0)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (("--upstream", "http://:secret@h"), "must be a redis://"),
        (("--queue", "[a"), "'[a'"),
        (("--state", "pending"), "'pending' is not one of"),
        (("--age", "7"), "did you mean 7s?"),
        (("--rate", "-1"), "-1"),
    ],
)
def test_what_is_not_understood_is_told(line: tuple[str, ...], told: str) -> None:
    """With what is expected, and without credentials."""
    said = refused(*line)
    assert told in said
    assert "secret" not in said


@pytest.mark.parametrize("order", [0, 1])
def test_a_password_in_a_file(tmp_path: Path, order: int) -> None:
    """It takes the place of one in the URL, wherever on the command line it stands."""
    file = tmp_path / "password"
    file.write_text("sesame\n")
    options = ["--upstream", "redis://me@h"], ["--upstream-password-file", str(file)]
    SEEN.clear()
    assert CliRunner().invoke(command, [*options[order], *options[1 - order]]).exit_code == 0
    assert (SEEN[0][0].username, SEEN[0][0].password) == ("me", "sesame")
    assert CliRunner().invoke(command, options[1]).exit_code == 0
    assert SEEN[1][0].password == "sesame"


def test_a_password_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """By its name and the reason, and nothing of what is in it."""
    assert "password file" in refused("--upstream-password-file", f"{tmp_path}/absent")
    file = tmp_path / "key"
    file.write_bytes(b"hush\xff")
    said = refused("--upstream-password-file", str(file))
    assert said.endswith("it is no text")
    assert "hush" not in said


def test_a_server_that_is_not_there_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """With one line, without credentials."""
    upstream = parse_upstream(f"redis://:secret@127.0.0.1:{free_port()}/0")
    with pytest.raises(SystemExit) as ended, connected(upstream, 0, TaskFilter(), changing=None):
        pytest.fail("nobody is there")
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{upstream} cannot be reached: ")


@pytest.mark.parametrize("error", [DatabaseError("it refuses"), KeyboardInterrupt()])
def test_a_database_is_closed_in_any_case(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it says becomes one line; what others say is theirs."""
    database = ScriptedDatabase()
    closed: list[bool] = []
    monkeypatch.setattr(database, "open", lambda *, changing: ["q"])
    monkeypatch.setattr(database, "close", lambda: closed.append(True))
    monkeypatch.setattr("asynq_ttl.cli.tool_options.database_of", lambda _upstream, _rate: database)
    kind = SystemExit if isinstance(error, DatabaseError) else type(error)
    with pytest.raises(kind), connected(database.upstream, 0, TaskFilter(), changing=None):
        raise error
    assert closed == [True]
    assert capsys.readouterr().err == ("it refuses\n" if kind is SystemExit else "")


def test_types_are_looked_for_until_each_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a glob nothing is read; one that matches nothing is told with the first of what there is."""
    database = ScriptedDatabase([task_of("pending", name=str(n), task_type=f"t{n:02}") for n in range(20)])
    read: list[Cursor] = []
    scan = database.scan

    def noted(cursor: Cursor, *, match: bytes, count: int) -> tuple[Cursor, list[bytes]]:
        read.append(cursor)
        return scan(cursor, match=match, count=count)

    monkeypatch.setattr(database, "scan", noted)
    check_types(database, ())
    assert read == []
    check_types(database, (compile_glob("t0*"),))
    assert read == [0]
    with pytest.raises(SystemExit):
        check_types(database, (compile_glob("t0*"), compile_glob("none")))
    shown = ", ".join(f"t{n:02}" for n in range(10))
    assert capsys.readouterr().err == f"--type none matches no task here; there are {shown} and 10 more\n"


def test_notes_are_not_results(capsys: pytest.CaptureFixture[str]) -> None:
    """They go to standard error."""
    note("written")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "written\n")


def test_a_cluster_is_one_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be found, that is told in one line; its connections are closed."""
    nodes = scripted_cluster(monkeypatch)
    upstream = parse_upstream("redis+cluster://127.0.0.1:7001")
    nodes[0].dead = {"node-2", "node-3"}
    with pytest.raises(SystemExit), tool_options.reached(upstream, 0) as database:
        database.queues()
    with tool_options.reached(upstream, 0) as database:
        assert isinstance(database, ClusterDatabase)
        assert database.size() is None
