"""All checks are made, and the worst finding comes first."""

import time
from typing import Any

from asynq_ttl.existing_keys.doctor.doctor import examine
from asynq_ttl.existing_keys.findings import Severity
from asynq_ttl.policy_file.load import parse_policy
from support.scripted_database import ScriptedDatabase, task_of

POLICY = parse_policy("version: 1\nrules: [{name: all, archived: {ttl: 7d}, completed: {ttl: 1d}}]", "policy.yaml")
INFO = {"redis_version": "7.0.15", "connected_clients": 2, "maxclients": 10_000, "used_memory": 1, "role": "master"}


class Server(ScriptedDatabase):
    """A database at a server that answers all that a doctor asks.

    Args:
        info: what INFO says.
        missing: the commands that the user may not run.
        skew: seconds by which the server's clock is ahead.
    """

    def __init__(self, info: dict[str, Any], missing: tuple[str, ...] = (), skew: float = 0) -> None:
        super().__init__([task_of("pending")])
        self._info = info
        self._missing = missing
        self._skew = skew

    def info(self, section: str) -> dict[str, Any]:
        """Return INFO."""
        assert section == "everything"
        return self._info

    def time(self) -> tuple[int, int]:
        """Return the server's time."""
        now = time.time() + self._skew
        return int(now), int(now % 1 * 1e6)

    def client_list(self) -> list[dict[str, str]]:
        """Return that a sidecar is connected."""
        return [{"addr": "10.0.0.1:1", "name": "asynq-ttl"}]

    def denied_on(self, key: bytes, commands: tuple[str, ...]) -> list[str]:
        """Return those of the commands that the user may not run."""
        return [name for name in (command.split()[0] for command in commands) if name in self._missing]


def test_a_healthy_set_up_lists_what_was_looked_at() -> None:
    """A check that is passed is a finding too."""
    found = examine(Server(INFO), POLICY, ["q"], 100)
    assert {finding.severity for finding in found} == {Severity.FINE}
    assert {"version", "eviction", "script-cache", "topology", "rights-wrappers", "clock", "bypass", "policy"} <= {
        finding.code for finding in found
    }


def test_the_worst_comes_first() -> None:
    """Whichever check it is of."""
    server = Server(INFO | {"role": "slave", "maxmemory_policy": "volatile-lru"}, skew=10)
    found = examine(server, POLICY, ["q"], 100)
    assert [finding.severity for finding in found] == sorted((finding.severity for finding in found), reverse=True)
    assert [finding.code for finding in found][:3] == ["topology", "eviction", "clock"]


def test_a_missing_right_is_found() -> None:
    """With the command's name."""
    found = examine(Server(INFO, missing=("PEXPIRE",)), POLICY, ["q"], 100)
    missing = [finding for finding in found if finding.severity is not Severity.FINE]
    assert missing
    assert all("PEXPIRE" in " ".join((finding.what, finding.why, *finding.examples)) for finding in missing)
