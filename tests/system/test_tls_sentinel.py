"""Sentinels and servers that speak TLS to everybody: Debian's, since those from PyPI are built without."""

from pathlib import Path

import pytest

from support.asynq import Harness
from support.certificates import Authority
from support.existing_keys import tool
from support.sentinels import Setup, follow, start_watched
from support.servers import SidecarFactory

POLICY = "version: 1\ngrace: 1s\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 1s}}]"


@pytest.mark.system
@pytest.mark.timeout(120)
def test_a_failover_behind_sentinels_that_speak_tls(
    harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """Sentinels and both masters are verified by the sidecar, and asked by `doctor`."""
    authority = Authority(tmp_path / "authority")
    authority.issue("127.0.0.1")
    with start_watched(tmp_path, Setup(kind="path-redis", authority=authority)) as watched:
        url = watched.url_of(database=3, query=f"ssl_ca_certs={authority.file}")
        sidecar = start_sidecar(url, POLICY, sweep_interval="0.25")
        follow(sidecar, watched, harness)
        told = tool("doctor", "--upstream", url).output
        assert "3 Sentinels say that the master is" in told
        sidecar.stop()
