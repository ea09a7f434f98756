"""A real sidecar serves whatever the `OTEL_*` variables say."""

import re

import pytest

from support.servers import Server, SidecarFactory

CASES = {
    "numbers": {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_SCHEDULE_DELAY": "0", "OTEL_METRIC_EXPORT_INTERVAL": "0"},
    "what is read by an import": {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "s3cret", "OTEL_PYTHON_CONTEXT": "s3cret"},
    "names and credentials": {
        "OTEL_TRACES_EXPORTER": "s3cret",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/s3cret",
        "OTEL_EXPORTER_OTLP_HEADERS": "Bearer s3cret",
    },
    "gRPC": {
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "-1",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "s3cret",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "/s3cret",
    },
}


@pytest.mark.parametrize("variables", CASES.values(), ids=CASES)
def test_it_serves(server: Server, start_sidecar: SidecarFactory, variables: dict[str, str]) -> None:
    """Each variable that cannot be used is named once, without its value."""
    sidecar = start_sidecar(server.url, **({"OTEL_TRACES_EXPORTER": "console"} | variables))
    sidecar.expected_warnings.append("cannot be used")
    assert sidecar.client().ping()
    assert sidecar.stop() == 0
    log = sidecar.log()
    named = re.findall(r"WARNING .* (OTEL_\w+) cannot be used", log)
    assert sorted(named) == sorted(name for name in variables if variables[name] != "grpc")
    assert "s3cret" not in log
