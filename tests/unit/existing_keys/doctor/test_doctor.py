"""All checks are made, and the worst finding comes first."""

import time
from collections.abc import Iterable
from typing import Any

from redis.exceptions import NoPermissionError

from asynq_ttl.existing_keys.doctor.doctor import examine
from asynq_ttl.existing_keys.findings import Severity
from asynq_ttl.existing_keys.refused import Refused
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
        """Return INFO, or nothing where the user may not ask."""
        assert section == "everything"
        return {} if "INFO" in self._missing else self._info

    def time(self) -> tuple[int, int]:
        """Return the server's time."""
        if "TIME" in self._missing:
            raise NoPermissionError("no permissions to run the 'time' command")
        now = time.time() + self._skew
        return int(now), int(now % 1 * 1e6)

    def client_list(self) -> list[dict[str, str]]:
        """Return that a sidecar is connected."""
        return [{"addr": "10.0.0.1:1", "name": "asynq-ttl"}, {"addr": "10.0.0.1:2", "name": "asynq-ttl-tools"}]

    def refused(self, commands: Iterable[str], key: bytes) -> Refused:
        """Return those of the commands that the user may not run."""
        return Refused(tuple(name for name in commands if name in self._missing))


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


def test_a_check_that_the_user_may_not_make_keeps_no_other_from_being_made() -> None:
    """It is a finding, and so is the missing right."""
    found = {finding.code: finding for finding in examine(Server(INFO, missing=("INFO", "TIME")), POLICY, ["q"], 100)}
    assert found["server"].severity is found["clock"].severity is Severity.NOTICE
    assert "TIME" in found["rights-wrappers"].what
    assert {"bypass", "policy", "rights-spared"} <= set(found)


def test_a_server_that_tells_little() -> None:
    """Managed ones leave fields out."""
    found = {finding.code: finding for finding in examine(Server({"role": "master"}), POLICY, None, 100)}
    assert found["version"].severity is Severity.NOTICE
    assert "policy" in found
