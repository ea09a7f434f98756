"""No value of an `OTEL_*` variable keeps a sidecar from serving; what cannot be used is named once."""

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import opentelemetry.environment_variables as of_the_api
import opentelemetry.sdk.environment_variables as of_the_sdk
import pytest
from opentelemetry.sdk.resources import Resource

from asynq_ttl.telemetry.environment import made, unusable, usable
from asynq_ttl.telemetry.recorder import Telemetry
from support.certificates import Authority
from support.otlp import Receiver, grpc_receiver, http_receiver
from support.recorded import UPSTREAM, outcome

# Variables of what the sidecar does not have: logs, Zipkin, the SDK's own Prometheus server and configuration files.
NOT_READ = ("_LOG", "_BLRP_", "ZIPKIN", "PROMETHEUS", "OTEL_CONFIG_FILE", "CONFIGURATOR")
OF_EXPORTERS = [
    f"OTEL_PYTHON_EXPORTER_OTLP_{of}CREDENTIAL_PROVIDER"
    for of in ("HTTP_", "HTTP_TRACES_", "HTTP_METRICS_", "GRPC_", "GRPC_TRACES_", "GRPC_METRICS_")
]
VARIABLES = sorted(
    {name for module in (of_the_api, of_the_sdk) for name in vars(module) if name.startswith("OTEL_")}
    | {*OF_EXPORTERS, "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES"}
)
NONSENSE = "n\x01nsense, of course"
OTHERS = ("  ", "0", "-1", "9" * 30, "s3cret\udcff", "a=b=c,,", "://s3cret@", "/dev/zero")


@pytest.fixture(scope="module", params=["http/protobuf", "grpc"])
def base(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Variables that turn everything on."""
    protocol = request.param
    with (grpc_receiver if protocol == "grpc" else http_receiver)() as receiver:
        yield variables_for(receiver, protocol)


def variables_for(receiver: Receiver, protocol: str) -> dict[str, str]:
    """Return what sends traces and metrics to a receiver."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    for signal in ("TRACES", "METRICS"):
        variables |= {
            f"OTEL_{signal}_EXPORTER": "otlp",
            f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT": f"{receiver.endpoint}/v1/{signal.lower()}",
            f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL": protocol,
        }
    return variables


def warnings_of(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> list[str]:
    """Build everything as these say, make a span, and return what was logged meanwhile, except of exporting."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    caplog.clear()
    telemetry = Telemetry(UPSTREAM)
    telemetry.decided(outcome())
    here = threading.get_ident()
    told = [record for record in caplog.records if record.levelno >= logging.WARNING and record.thread == here]
    warnings = [record.getMessage() for record in told]
    telemetry.shutdown()
    assert {name: os.environ[name] for name in variables} == variables
    return warnings


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_that_cannot_be_used_is_named_once(
    name: str, base: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing raises, whatever the value; the line never has the value, and the SDK logs nothing."""
    warnings = warnings_of(base | {name: NONSENSE}, monkeypatch, caplog)
    expected = 0 if any(part in name for part in NOT_READ) else 1
    assert len(warnings) == expected, warnings
    assert all(line.startswith(f"{name} ") and "nsense" not in line for line in warnings)
    # What has nothing to do with exporting is the same with both protocols: each has half of the values.
    half = slice(base["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc", None, 2)
    for value in OTHERS if "OTLP" in name else OTHERS[half]:
        warnings = warnings_of(base | {name: value}, monkeypatch, caplog)
        assert len(warnings) <= (1 if value.strip() else 0), (value, warnings)
        assert all(line.startswith(f"{name} ") and "s3cret" not in line for line in warnings), value


def test_several_at_once(
    base: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each has its line."""
    names = [name for name in VARIABLES if not any(part in name for part in NOT_READ)]
    warnings = warnings_of(base | dict.fromkeys(names, NONSENSE), monkeypatch, caplog)
    assert sorted(line.split(" ", 1)[0] for line in warnings) == sorted(names)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "100"}, "OTEL_BSP_MAX_QUEUE_SIZE"),
        ({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "20000"}, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "101"}, "OTEL_BSP_MAX_QUEUE_SIZE"),
    ],
)
def test_a_queue_holds_a_batch(
    variables: dict[str, str],
    named: str,
    base: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Else the SDK raises. Neither is used then."""
    (line,) = warnings_of(base | variables, monkeypatch, caplog)
    assert line.startswith(named)
    with usable(variables) as allowed:
        assert allowed == {}


def test_what_can_be_used_stays(tmp_path: Path) -> None:
    """And nothing is said. Space around a value does not count."""
    authority = Authority(tmp_path)
    variables = {
        "OTEL_BSP_MAX_QUEUE_SIZE": " 100 ",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50",
        "OTEL_SPAN_LINK_COUNT_LIMIT": "Unset",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x, x-a = b",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.file),
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(authority.file),
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector.example/otlp?x=1",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "GRPC",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "collector:4317",
        "OTEL_PROPAGATORS": "tracecontext,baggage,none",
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=a,deployment.environment.name=süd",
    }
    assert unusable(variables) == {}
    with usable({**variables, "HOME": "x"}) as allowed:
        assert allowed == {name: value.strip() for name, value in variables.items()}
        assert os.environ["OTEL_BSP_MAX_QUEUE_SIZE"] == "100"


def test_what_raises_nevertheless_is_made_without_any_variable(caplog: pytest.LogCaptureFixture) -> None:
    """A later SDK may refuse what is not known here."""

    def make(variables: Mapping[str, str]) -> Resource:
        if variables:
            raise ValueError(variables["OTEL_NEW"])
        assert "OTEL_NEW" not in os.environ
        return Resource({})

    with usable({"OTEL_NEW": "s3cret"}) as allowed:
        assert os.environ["OTEL_NEW"] == "s3cret"
        assert made("traces", allowed, make) == Resource({})
    assert caplog.messages == ["traces: none of the variables is used, since the SDK raises ValueError for OTEL_NEW"]
