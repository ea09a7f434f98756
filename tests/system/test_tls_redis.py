"""A Redis that speaks TLS itself: Debian's, since those from PyPI are built without."""

from pathlib import Path

import pytest

from support.asynq import Harness
from support.certificates import Authority
from support.servers import SidecarFactory, free_port, start_path_redis, wait_until

pytestmark = pytest.mark.system

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}}]"


def test_real_asynq_behind_a_redis_that_asks_for_certificates(
    harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """Redis verifies the sidecar and the sidecar verifies Redis; tasks get their TTL."""
    authority = Authority(tmp_path / "authority")
    certificate, mine = authority.issue("redis.internal"), authority.issue("sidecar", file="sidecar.pem")
    port = free_port()
    options = ("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(certificate))
    with start_path_redis(*options, "--tls-ca-cert-file", str(authority.file)) as server:
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority.file}&ssl_server_name=redis.internal"
        sidecar = start_sidecar(f"{url}&ssl_certfile={mine}", POLICY)
        wait_until(lambda: "is up" in sidecar.log(), "its own connection does not come up")
        harness.enqueue(sidecar.address, {"type": "mail", "payload": '{"do": "skip"}', "id": "a"})
        harness.work(sidecar.address)
        with server.client() as client:
            assert 3000 < client.ttl("asynq:{default}:t:a") <= 3660
        unknown = start_sidecar(url, POLICY)
        unknown.expected_warnings.append("is down")
        wait_until(lambda: "is down" in unknown.log(), "a sidecar without a certificate is let in")
        sidecar.stop()
        unknown.stop()
