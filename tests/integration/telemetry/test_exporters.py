"""A collector that does not work is told of and counted; the sidecar serves on."""

import re
import time
from urllib.request import urlopen

import pytest

from support.asynq import Harness
from support.otlp import broken_collector
from support.servers import Server, SidecarFactory, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}}]\n"
QUICK = {"OTEL_EXPORTER_OTLP_TIMEOUT": "0.2", "OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_METRIC_EXPORT_INTERVAL": "50"}
KINDS = {
    "hangs": None,
    "hangs up": b"",
    "speaks something else": b"SSH-2.0 hello\r\n\r\n",
    "has a fault": b"HTTP/1.1 500 Fault\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("answer", KINDS.values(), ids=KINDS)
def test_a_collector_that_does_not_work(
    answer: bytes | None, server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """Clients do not notice, spans that are lost are counted, and the log is not filled."""
    with broken_collector(answer) as endpoint:
        sidecar = start_sidecar(server.url, POLICY, admin="127.0.0.1:0", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **QUICK)
        sidecar.expected_warnings.append(" opentelemetry[.]")
        began = time.monotonic()
        harness.enqueue(sidecar.address, *({"type": "job", "payload": '{"do": "skip"}'} for _ in range(3)))
        assert harness.work(sidecar.address)[-1]["processed"] == 3
        wait_until(lambda: lost(sidecar.admin) >= 3, "lost spans are not counted")
        wait_until(lambda: time.monotonic() > began + 4, "time stands still")
        assert sidecar.client().ping()
        assert sidecar.stop() == 0
        rounds = (time.monotonic() - began) // 10 + 1
    told = [line for line in sidecar.log().splitlines() if " opentelemetry" in line]
    # Of spans and of metrics, warnings and errors, one each at most every ten seconds.
    assert 1 <= len(told) <= 4 * rounds


def lost(admin: str) -> float:
    """Return how many spans were lost, as the metrics say."""
    with urlopen(f"http://{admin}/metrics") as answer:
        found = re.search(rb'asynq_ttl_spans_exported_total{result="error"} ([0-9.]+)', answer.read())
    return float(found[1]) if found else 0
