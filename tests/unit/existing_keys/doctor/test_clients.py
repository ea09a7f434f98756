"""What the doctor makes of the clients that are connected."""

from typing import Any

import pytest
from redis.exceptions import NoPermissionError

from asynq_ttl.existing_keys.doctor import clients
from asynq_ttl.existing_keys.doctor.clients import Client
from asynq_ttl.existing_keys.findings import Severity
from asynq_ttl.net.address import parse_upstream
from support.scripted_database import ScriptedDatabase

SIDECAR: Client = {"addr": "10.0.0.1:500", "name": "asynq-ttl", "cmd": "ping"}
SWEEPER: Client = {"addr": "10.0.0.2:500", "name": "asynq-ttl-sweeper", "cmd": "eval"}
BESIDE: Client = {"addr": "10.0.0.1:501", "name": "", "cmd": "evalsha"}
PAST: Client = {"addr": "10.0.0.9:502", "name": "worker", "cmd": "evalsha"}


class Listing(ScriptedDatabase):
    """A database with clients, or with a reason why they cannot be listed."""

    def __init__(self, listed: list[Client] | Exception, url: str = "redis://h:1/0") -> None:
        super().__init__()
        self.upstream = parse_upstream(url)
        self._listed = listed

    def client_list(self) -> Any:
        """Return the clients."""
        if isinstance(self._listed, Exception):
            raise self._listed
        return self._listed


def test_everybody_comes_from_where_a_sidecar_is() -> None:
    """It is fine, and it is said what cannot be told."""
    found = clients.check_bypass([SIDECAR, BESIDE])
    assert (found.code, found.severity) == ("bypass", Severity.FINE)
    assert "10.0.0.1" in found.what
    assert "cannot be told" in found.why


@pytest.mark.parametrize("sidecar", [SIDECAR, SWEEPER])
def test_somebody_walks_past(sidecar: Client) -> None:
    """Each host is named once, however many connections it has."""
    found = clients.check_bypass([sidecar, PAST, PAST | {"addr": "10.0.0.9:503"}])
    assert (found.severity, found.count, found.examples) == (Severity.WARNING, 1, ["10.0.0.9"])


@pytest.mark.parametrize(
    ("listed", "severity"),
    [([], Severity.NOTICE), ([{"addr": "a:1", "cmd": "get"}], Severity.NOTICE), ([PAST], Severity.WARNING)],
)
def test_no_sidecar_is_connected(listed: list[Client], severity: Severity) -> None:
    """It matters as soon as there are clients of Asynq."""
    found = clients.check_bypass(listed)
    assert found.severity is severity
    assert "no sidecar" in found.what


@pytest.mark.parametrize(
    "client",
    [
        {"addr": "10.0.0.9:1", "cmd": "subscribe"},
        {"addr": "10.0.0.9:1", "cmd": "get", "lib-name": "go-redis(,go1.22)"},
    ],
)
def test_what_a_client_of_asynq_looks_like(client: Client) -> None:
    """By its last command or by its library."""
    assert clients.check_bypass([SIDECAR, client]).examples == ["10.0.0.9"]


def test_our_tools_and_strangers_are_nobody_s_clients() -> None:
    """Neither is told to go through a sidecar."""
    tools = {"addr": "10.0.0.9:1", "name": "asynq-ttl-tools", "cmd": "evalsha"}
    stranger = {"addr": "10.0.0.8:1", "cmd": "get"}
    assert clients.check_bypass([SIDECAR, tools, stranger]).severity is Severity.FINE


def test_a_connection_without_an_address_is_a_host_of_its_own() -> None:
    """It can only have come by a unix socket."""
    assert clients.check_bypass([SIDECAR, {"cmd": "evalsha"}]).examples == ["unix socket"]


def test_sentinels_that_the_url_does_not_name() -> None:
    """After a failover the address would be a replica's."""
    watcher = {"addr": "10.0.0.5:1", "name": "sentinel-1a2b-cmd"}
    assert [found.code for found in clients.check_watched([watcher])] == ["sentinel"]
    assert not list(clients.check_watched([SIDECAR]))


@pytest.mark.parametrize(
    ("url", "codes"),
    [("redis://h:1/0", ["sentinel", "bypass"]), ("redis+sentinel://h:1/mymaster/0", ["bypass"])],
)
def test_behind_named_sentinels_nobody_is_warned_of_them(url: str, codes: list[str]) -> None:
    """They are where the address comes from."""
    database = Listing([{"addr": "10.0.0.5:1", "name": "sentinel-1a2b-cmd"}, SIDECAR], url)
    assert [found.code for found in clients.check(database, 1)] == codes


def test_too_many_clients_are_not_listed() -> None:
    """Listing them would hold Redis up."""
    found = list(clients.check(Listing(AssertionError("asked all the same")), 2_001))
    assert [(finding.code, finding.severity) for finding in found] == [("bypass", Severity.NOTICE)]
    assert "2,001" in found[0].what


def test_a_user_without_the_right_is_told_so() -> None:
    """The other checks go on."""
    found = list(clients.check(Listing(NoPermissionError("no 'client|list'")), 1))
    assert [(finding.code, finding.severity) for finding in found] == [("bypass", Severity.NOTICE)]
    assert "+client|list" in found[0].advice


def test_without_names_nobody_is_said_to_walk_past() -> None:
    """This connection has asked for a name: if it has none, sidecars have none either."""
    found = list(clients.check(Listing([BESIDE, PAST]), 2))
    assert [(finding.code, finding.severity) for finding in found] == [("bypass", Severity.NOTICE)]
    assert "+client|setname" in found[0].advice
