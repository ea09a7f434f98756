"""What the doctor makes of a server's INFO and of its clock."""

from collections.abc import Iterable
from typing import Any

import pytest

from asynq_ttl.existing_keys.doctor import server_info
from asynq_ttl.existing_keys.findings import Finding, Severity

FINE, WARNING, DANGER = Severity.FINE, Severity.WARNING, Severity.DANGER


def severities(found: Iterable[Finding]) -> list[tuple[str, Severity]]:
    """Return the findings as codes and severities; each that is not fine says why, and what to do."""
    listed = list(found)
    for finding in listed:
        assert finding.what
        assert finding.severity is FINE or (finding.why and finding.advice), finding
    return [(finding.code, finding.severity) for finding in listed]


@pytest.mark.parametrize(
    ("info", "severity", "product"),
    [
        ({"redis_version": "3.2.12"}, DANGER, "Redis 3.2.12"),
        ({"redis_version": "4.0.0"}, WARNING, "Redis 4.0.0"),
        ({"redis_version": "6.0.16"}, WARNING, "Redis 6.0.16"),
        ({"redis_version": "6.2.0"}, FINE, "Redis 6.2.0"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.0"}, FINE, "Valkey 9.1.0"),
    ],
)
def test_versions(info: dict[str, Any], severity: Severity, product: str) -> None:
    """Too old for Asynq is a danger, older than what is tried a warning. Valkey's own version counts."""
    found = list(server_info.check_version(info))
    assert severities(found) == [("version", severity)]
    assert product in found[0].what


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"maxmemory_policy": "noeviction", "maxmemory": 0}, [("eviction", FINE)]),
        ({"maxmemory_policy": "volatile-ttl", "maxmemory": 100, "used_memory": 50}, [("eviction", WARNING)]),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 0}, [("eviction", WARNING)]),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 100, "used_memory": 50}, [("eviction", DANGER)]),
        (
            {"maxmemory_policy": "noeviction", "maxmemory": 100, "used_memory": 91},
            [("eviction", FINE), ("memory-full", WARNING)],
        ),
        ({"maxmemory_policy": "noeviction", "maxmemory": 100, "used_memory": 90}, [("eviction", FINE)]),
        ({}, [("eviction", FINE)]),
    ],
)
def test_memory(info: dict[str, Any], expected: list[tuple[str, Severity]]) -> None:
    """Evicting any key is dangerous where there is a limit; more than nine tenths of it are worth a warning."""
    assert severities(server_info.check_memory(info)) == expected


@pytest.mark.parametrize(("count", "severity"), [(500, FINE), (501, WARNING)])
def test_scripts(count: int, severity: Severity) -> None:
    """More scripts than anybody has who puts no values into their texts."""
    assert severities(server_info.check_scripts({"number_of_cached_scripts": count})) == [("script-cache", severity)]


@pytest.mark.parametrize(
    ("info", "expected", "word"),
    [
        ({}, [("topology", FINE)], "stands alone"),
        ({"role": "master", "connected_slaves": 2}, [("topology", FINE)], "2 replicas"),
        ({"role": "slave", "master_host": "h", "master_port": 7}, [("topology", DANGER)], "replica"),
        ({"redis_mode": "cluster"}, [("topology", DANGER)], "cluster"),
        ({"server_mode": "sentinel"}, [("topology", DANGER)], "Sentinel"),
    ],
)
def test_topology(info: dict[str, Any], expected: list[tuple[str, Severity]], word: str) -> None:
    """Tasks can be worked on at a master that has loaded its data, and nowhere else."""
    found = list(server_info.check_topology(info))
    assert severities(found) == expected
    assert word in found[0].what


def test_a_server_that_is_loading() -> None:
    """It does not serve yet; whether it is a node of a cluster makes no difference."""
    assert severities(list(server_info.check_loading({"loading": 1}))) == [("loading", WARNING)]
    assert not list(server_info.check_loading({}))
    for of_cluster in (True, False):
        codes = [finding.code for finding in server_info.check({"loading": 1}, of_cluster=of_cluster)]
        assert ("loading" in codes, "topology" in codes) == (True, not of_cluster)


def test_a_replica_s_master_is_named() -> None:
    """So that the address can be mended."""
    found = list(server_info.check_topology({"role": "slave", "master_host": "10.0.0.7", "master_port": 6379}))
    assert "10.0.0.7:6379" in found[0].advice


@pytest.mark.parametrize(
    ("clients", "most", "expected"),
    [(80, 100, []), (81, 100, [("maxclients", WARNING)]), (81, 0, [])],
)
def test_connections(clients: int, most: int, expected: list[tuple[str, Severity]]) -> None:
    """More than four fifths of the connections are taken; without a limit nothing is said."""
    assert severities(server_info.check_connections({"connected_clients": clients, "maxclients": most})) == expected


@pytest.mark.parametrize(
    ("skew", "asked_for", "severity"),
    [(2.0, 0.0, FINE), (-2.0, 0.0, FINE), (2.1, 0.0, WARNING), (5.0, 5.0, FINE), (-61.0, 0.0, DANGER)],
)
def test_clocks(skew: float, asked_for: float, severity: Severity) -> None:
    """What the grace bridges is a warning, what it does not is a danger; a slow answer proves nothing."""
    found = server_info.check_clock(skew, asked_for, 60)
    assert severities([found]) == [("clock", severity)]
    assert f"{abs(skew):.1f} s" in found.what
