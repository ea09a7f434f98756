"""The units on a machine that systemd runs, installed as the README says. The machine is a booted systemd-nspawn."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py

from support.asynq import Harness
from support.caller import Caller
from support.debian import in_memory, unpack_debian, way_to_pypi
from support.namespaces import cgroup_folders, own_network, remove_cgroups
from support.paths import ROOT
from support.servers import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

CGROUP = f"asynq-ttl-test-{os.getpid()}"
# The exposure, in tenths, that `systemd-analyze security` may find; the unit has 11, one without hardening 96.
MOST_EXPOSED = 15
POLICY = "version: 1\nmode: {mode}\nrules: [{{name: all, archived: {{ttl: 1h}}, completed: {{ttl: 1h}}}}]\n"


def commands(page: str, heading: str) -> list[str]:
    """Return the commands of the first block of code below a heading."""
    text = (ROOT / page).read_text()
    found = re.search(rf"(?ms)^\**#* ?{re.escape(heading)}.*?^```\n(.*?)^```", text)
    assert found, f"{page} has no commands below {heading}"
    return [line.split(" #")[0].strip() for line in found[1].splitlines()]


class Machine:
    """A machine in a folder.

    Args:
        root: its root, with what the README needs: Python, Redis, systemd, and this checkout in `/src`.
        options: of systemd-nspawn.
    """

    def __init__(self, root: Path, options: list[str]) -> None:
        self.root = root
        quiet = ["--quiet", "--register=no", "--keep-unit", "--console=pipe", "--resolv-conf=copy-host"]
        enter_cgroups = 'for each in $CGROUPS; do echo $$ > "$each/cgroup.procs"; done; exec "$@"'
        self._command = ["sh", "-euc", enter_cgroups, "sh", "systemd-nspawn", *quiet, *options, f"--directory={root}"]
        # Its systemd wants control groups of version 2, whatever this machine has.
        cgroups = " ".join(map(str, _make_cgroups()))
        self._environment = os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "CGROUPS": cgroups}
        self._leader: subprocess.Popen[bytes] | None = None

    def prepare(self, script: str) -> None:
        """Run commands in it before it is booted, in the network of this machine."""
        command = [*self._command, "--chdir=/src", "sh", "-euxc", script]
        run = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr

    def boot(self) -> None:
        """Start systemd in it and wait until everything is up."""
        self._leader = subprocess.Popen(
            [*self._command, "--boot"],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        asked = "systemctl is-system-running"
        wait_until(lambda: self._init() and self._enter(asked).stdout == "running\n", "it does not come up", 90)

    def run(self, script: str, status: int = 0) -> str:
        """Run commands in it once it is booted, and return what they say; they have to end with that status."""
        run = self._enter(script)
        assert run.returncode == status, f"{script}: {run.stdout}"
        return run.stdout.strip()

    def log(self) -> str:
        """What the sidecar has logged."""
        return self.run("journalctl --sync; journalctl --unit asynq-ttl --output cat --no-pager")

    def close(self) -> None:
        """Pull the plug."""
        if self._leader is not None and self._leader.poll() is None:
            if init := self._init():
                os.kill(int(init), signal.SIGKILL)
            else:
                self._leader.kill()
            self._leader.wait()
        remove_cgroups(CGROUP)

    def _enter(self, script: str) -> "subprocess.CompletedProcess[str]":
        enter = ["nsenter", "--target", self._init(), "--mount", "--uts", "--ipc", "--pid", "--cgroup"]
        path = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        command = [*enter, "env", "-i", path, "HOME=/root", "SYSTEMD_PAGER=", "sh", "-euc", f"cd /src\n{script}"]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)

    def _init(self) -> str:
        assert self._leader is not None
        assert self._leader.poll() is None, "the machine is gone"
        children = Path(f"/proc/{self._leader.pid}/task/{self._leader.pid}/children").read_text().split()
        return children[-1] if children else ""


def _make_cgroups() -> list[Path]:
    """Return control groups for the machine, where systemd-nspawn makes its own: in systemd's hierarchies."""
    folders = [each for each in cgroup_folders(CGROUP) if each.parent.name in ("cgroup", "unified", "systemd")]
    for folder in folders:
        folder.mkdir()
    return folders


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine where the README's commands were carried out."""
    with in_memory() as folder:
        root = folder / "root"
        unpack_debian(root)
        (root / "src").mkdir()
        for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "proxy", "policies", "deploy"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, root / "src" / name)
        shutil.copytree(ROOT / "tests" / "harness", root / "src" / "tests" / "harness")
        options = [f"--bind-ro={here}:{there}" for here, there in way_to_pypi(folder).items()]
        lines = commands("deploy/README.md", "With systemd")
        before_boot = lines.index("systemctl daemon-reload")
        machine = Machine(root, options)
        try:
            machine.prepare("\n".join(lines[:before_boot]))
            with own_network():
                machine.boot()
                machine.run("\n".join(lines[before_boot:]))
                assert machine.run("redis-cli -p 6380 ping") == "PONG", "it was started, and does not listen yet"
                yield machine
        finally:
            machine.close()


@pytest.fixture(autouse=True)
def as_installed(machine: Machine) -> Iterator[None]:
    """Begin with a running service, its policy and no settings; end with no socket unit."""
    machine.run("cp policies/safe-default.yaml /etc/asynq-ttl/policy.yaml; : > /etc/asynq-ttl/environment")
    machine.run("systemctl restart asynq-ttl")
    yield
    machine.run("systemctl stop asynq-ttl.socket 2>/dev/null || true")


def test_it_runs_as_nobody_and_is_hardened(machine: Machine, harness: Harness) -> None:
    """Real Asynq gets its TTL from a service with a user of its own and nothing that it does not need."""
    harness.enqueue("127.0.0.1:6380", {"type": "mail", "payload": '{"do": "skip"}', "id": "a"})
    harness.work("127.0.0.1:6380")
    with redis_py.Redis() as client:
        assert client.ttl("asynq:{default}:t:a") > 0
    pid = machine.run("systemctl show --property MainPID --value asynq-ttl")
    status = machine.run(f"cat /proc/{pid}/status")
    user = re.search(r"(?m)^Uid:\t(\d+)", status)
    assert user
    assert 61184 <= int(user[1]) <= 65519, "it is no dynamic user"
    assert re.search(r"(?m)^CapBnd:\t0+$", status)
    assert re.search(r"(?m)^NoNewPrivs:\t1$", status)
    machine.run(f"systemd-analyze security --no-pager --threshold={MOST_EXPOSED} asynq-ttl.service")
    machine.run("systemd-analyze verify /etc/systemd/system/asynq-ttl.service deploy/systemd/asynq-ttl.socket")


def test_reload_takes_a_good_policy_and_refuses_a_bad_one(machine: Machine) -> None:
    """A wrong policy fails the reload, with its line; the sidecar goes on with the old one."""
    policy = machine.root / "etc" / "asynq-ttl" / "policy.yaml"
    policy.write_text(POLICY.format(mode="shadow"))
    machine.run("systemctl reload asynq-ttl")
    wait_until(lambda: "is in force, mode shadow" in machine.log(), "it is not reloaded")
    policy.write_text("version: 1\nmood: shadow\n")
    machine.run("systemctl reload asynq-ttl", status=1)
    assert "policy.yaml:2: unknown key mood" in machine.log()
    assert machine.run("systemctl is-active asynq-ttl; redis-cli -p 6380 ping") == "active\nPONG"


def test_a_start_that_fails_is_one(machine: Machine) -> None:
    """With a wrong policy `systemctl restart` fails, and systemd does not try again."""
    (machine.root / "etc" / "asynq-ttl" / "policy.yaml").write_text("version: 1\nmood: shadow\n")
    machine.run("systemctl restart asynq-ttl", status=1)
    show = "systemctl show --property Result,ExecMainStatus,NRestarts asynq-ttl"
    assert set(machine.run(show).splitlines()) == {"Result=exit-code", "ExecMainStatus=2", "NRestarts=0"}


def test_it_is_started_again_however_often_it_is_killed(machine: Machine) -> None:
    """After a second each time; systemd's own limit is five starts in ten seconds."""
    for _ in range(6):
        machine.run("systemctl restart asynq-ttl")
    machine.run("systemctl kill --signal KILL asynq-ttl")
    wait_until(lambda: machine.run("redis-cli -p 6380 ping || true") == "PONG", "it is not started again")


def test_settings_and_workers_of_a_group(machine: Machine) -> None:
    """The environment file is read; on a unix socket the group of the drop-in may connect, and nobody else."""
    (machine.root / "etc" / "asynq-ttl" / "environment").write_text(
        "ASYNQ_TTL_LISTEN=unix:/run/asynq-ttl/asynq-ttl.sock\n"
    )
    drop_in = "/etc/systemd/system/asynq-ttl.service.d"
    machine.run("groupadd --system workers; useradd --system --gid workers mate; useradd --system other")
    machine.run(f"mkdir -p {drop_in}; printf '[Service]\\nGroup=workers\\n' > {drop_in}/group.conf")
    try:
        machine.run("systemctl daemon-reload; systemctl restart asynq-ttl")
        ask = "runuser -u {} -- redis-cli -s /run/asynq-ttl/asynq-ttl.sock ping"
        assert machine.run(ask.format("mate")) == "PONG"
        assert "Permission denied" in machine.run(ask.format("other"), status=1)
    finally:
        machine.run(f"rm -r {drop_in}; systemctl daemon-reload")


def test_stop_waits_for_a_command_under_way(machine: Machine) -> None:
    """`systemctl stop` lets a blocked command have its reply."""
    with redis_py.Redis(port=6380) as client, redis_py.Redis() as direct:
        connection = client.connection_pool.get_connection()
        connection.send_command("BLPOP", "list", "20")
        wait_until(lambda: direct.info("clients")["blocked_clients"] == 1, "it does not wait")
        machine.run("systemctl stop --no-block asynq-ttl")
        wait_until(lambda: "draining" in machine.log().rpartition("listening at")[2], "it does not drain")
        assert machine.run("systemctl is-active asynq-ttl || true") == "deactivating"
        direct.rpush("list", "item")
        assert connection.read_response() == [b"list", b"item"]
    wait_until(lambda: machine.run("systemctl is-active asynq-ttl || true") == "inactive", "it does not end")
    assert machine.run("systemctl show --property ExecMainStatus --value asynq-ttl") == "0"


def test_a_restart_refuses_nobody_where_systemd_holds_the_socket(machine: Machine) -> None:
    """As docs/lifecycle.md says: with the socket unit no connection is refused, without it some are."""
    with Caller(6380) as caller:
        machine.run("systemctl restart asynq-ttl")
        wait_until(lambda: caller.calls > 50, "nobody is served")
    assert caller.problems, "a restart without the socket unit went unnoticed: the caller notices nothing"
    *steps, restart = commands("docs/lifecycle.md", "Socket activation.")
    machine.run("\n".join(steps))
    with Caller(6380) as caller:
        for _ in range(3):
            calls = caller.calls
            machine.run(restart)
            wait_until(lambda calls=calls: caller.calls > calls + 200, "nobody is served any more")  # type: ignore[misc]
    assert caller.problems == []
