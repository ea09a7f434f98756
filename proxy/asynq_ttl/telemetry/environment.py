"""Which `OTEL_*` variables cannot be used, and how the SDK is kept from them.

Invariant: telemetry never keeps a sidecar from serving. A variable whose value cannot be used counts as not set. It is
named once in the log, without its value, which may be a credential. For some of them the SDK raises, for some it does
so when it is imported, and for others it writes the value into the log: so it never sees them.

An empty value counts as not set too, as OpenTelemetry's specification says; that is no fault.
"""

import logging
import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

_log = logging.getLogger("asynq_ttl.telemetry")

Made = TypeVar("Made")

_MOST = 2**31 - 1
_DAY_SECONDS = 86_400
SPAN_QUEUE_SIZE = 16_384
"""Spans that wait for an exporter. More than the SDK's 2,048: a burst of decisions is what a sidecar sees."""
_SPAN_BATCH_SIZE = 512

_SIGNALS = ("", "TRACES_", "METRICS_")
_SAMPLERS = (
    *("always_on", "always_off", "traceidratio"),
    *("parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"),
)


class _Kind(NamedTuple):
    """What a variable may be."""

    expected: str
    accepts: Callable[[str], bool]


def _whole(least: int) -> _Kind:
    def accepts(text: str) -> bool:
        return text.isascii() and text.isdigit() and len(text) <= len(str(_MOST)) and least <= int(text) <= _MOST

    return _Kind(f"a whole number from {least} to {_MOST}", accepts)


def _real(expected: str, fits: Callable[[float], bool]) -> _Kind:
    def accepts(text: str) -> bool:
        try:
            return fits(float(text))
        except ValueError:
            return False

    return _Kind(expected, accepts)


def _one_of(*words: str) -> _Kind:
    return _Kind("one of " + ", ".join(words), lambda text: text.lower() in words)


def _some_of(*words: str) -> _Kind:
    return _Kind("some of " + ", ".join(words), lambda text: all(name.lower() in words for name in _names(text)))


def _installed(group: str, *, besides: tuple[str, ...] = ()) -> _Kind:
    """Return the kind whose values name installed plug-ins."""

    def accepts(text: str) -> bool:
        return all(name in besides or bool(entry_points(group=group, name=name)) for name in _names(text))

    return _Kind("what is installed", accepts)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


def _is_target(text: str) -> bool:
    """Say whether gRPC may be given this: a URL, or a target such as HOST:PORT or unix:PATH."""
    return _is_url(text) or re.fullmatch(r"[\w.\-\[\]:]+:\d{1,5}|(?:unix|dns|ipv4|ipv6):\S+", text) is not None


def _are_pairs(text: str) -> bool:
    return all(re.fullmatch(r"\s*[^=\s]+\s*=.*", item) for item in text.split(","))


def _are_headers(text: str) -> bool:
    """Say whether these can be headers, of HTTP and of gRPC: other names and values raise at each export."""
    return all(re.fullmatch(r"[\w.\-]+\s*=[ -~]*", unquote(item), re.ASCII) for item in _names(text))


def _is_readable(text: str) -> bool:
    try:
        return Path(text).is_file() and b"-----BEGIN " in Path(text).read_bytes()
    except (OSError, ValueError):
        return False


def _is_authority(text: str) -> bool:
    if not _is_readable(text):  # opening a pipe would wait for its writer
        return False
    try:
        ssl.create_default_context(cafile=text)
    except (OSError, ValueError):
        return False
    return True


_SWITCH = _one_of("true", "false")
_POSITIVE, _LIMIT = _whole(1), _whole(0)
_SPAN_LIMIT = _Kind(f"{_LIMIT.expected}, or unset", lambda text: text.lower() == "unset" or _LIMIT.accepts(text))
_PEM = _Kind("a PEM file that can be read", _is_readable)
_CREDENTIALS = _installed("opentelemetry_otlp_credential_provider")
_EXPORTERS = _some_of("otlp", "console", "none")
_OTLP = {
    "PROTOCOL": _one_of("grpc", "http/protobuf"),
    "TIMEOUT": _real(f"seconds, more than 0 and at most {_DAY_SECONDS}", lambda number: 0 < number <= _DAY_SECONDS),
    "COMPRESSION": _one_of("none", "gzip", "deflate"),
    "HEADERS": _Kind("NAME=VALUE, several with commas", _are_headers),
    "CERTIFICATE": _Kind("a file with certificates of authorities", _is_authority),
    "CLIENT_KEY": _PEM,
    "CLIENT_CERTIFICATE": _PEM,
    "INSECURE": _SWITCH,
}
_KINDS: dict[str, _Kind] = {
    "OTEL_SDK_DISABLED": _SWITCH,
    "OTEL_TRACES_EXPORTER": _EXPORTERS,
    "OTEL_METRICS_EXPORTER": _EXPORTERS,
    "OTEL_SERVICE_NAME": _Kind("printable text", str.isprintable),
    "OTEL_RESOURCE_ATTRIBUTES": _Kind("NAME=VALUE, several with commas", _are_pairs),
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": _installed("opentelemetry_resource_detector", besides=("*",)),
    "OTEL_TRACES_SAMPLER": _one_of(*_SAMPLERS),
    "OTEL_TRACES_SAMPLER_ARG": _real("a number from 0 to 1", lambda number: 0 <= number <= 1),
    "OTEL_METRIC_EXPORT_INTERVAL": _POSITIVE,
    "OTEL_METRIC_EXPORT_TIMEOUT": _POSITIVE,
    "OTEL_METRICS_EXEMPLAR_FILTER": _one_of("trace_based", "always_on", "always_off"),
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": _one_of("cumulative", "delta", "lowmemory"),
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": _one_of(
        "explicit_bucket_histogram", "base2_exponential_bucket_histogram"
    ),
    "OTEL_PROPAGATORS": _installed("opentelemetry_propagator", besides=("none",)),
    "OTEL_PYTHON_CONTEXT": _installed("opentelemetry_context"),
    "OTEL_PYTHON_ID_GENERATOR": _installed("opentelemetry_id_generator"),
    "OTEL_PYTHON_TRACER_PROVIDER": _installed("opentelemetry_tracer_provider"),
    "OTEL_PYTHON_METER_PROVIDER": _installed("opentelemetry_meter_provider"),
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": _SWITCH,
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES": _some_of(
        *("cancelled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists"),
        *("permission_denied", "resource_exhausted", "failed_precondition", "aborted", "out_of_range"),
        *("unimplemented", "internal", "unavailable", "data_loss", "unauthenticated", "ok"),
    ),
    **{f"OTEL_EXPORTER_OTLP_{signal}{of}": kind for signal in _SIGNALS for of, kind in _OTLP.items()},
    **{
        f"OTEL_PYTHON_EXPORTER_OTLP_{transport}_{signal}CREDENTIAL_PROVIDER": _CREDENTIALS
        for transport in ("HTTP", "GRPC")
        for signal in _SIGNALS
    },
    **{
        f"OTEL_BSP_{of}": _POSITIVE
        for of in ("SCHEDULE_DELAY", "EXPORT_TIMEOUT", "MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE")
    },
    **{
        f"OTEL_{of}_LIMIT": _SPAN_LIMIT
        for of in (
            *("ATTRIBUTE_COUNT", "ATTRIBUTE_VALUE_LENGTH", "EVENT_ATTRIBUTE_COUNT", "LINK_ATTRIBUTE_COUNT"),
            *("SPAN_ATTRIBUTE_COUNT", "SPAN_ATTRIBUTE_VALUE_LENGTH", "SPAN_EVENT_COUNT", "SPAN_LINK_COUNT"),
        )
    },
}
VARIABLES = tuple(_KINDS)
"""The names of those that are looked at, but for the endpoints, whose values depend on others."""
_URL = _Kind("a URL such as http://HOST:4318", _is_url)
_TARGET = _Kind("a URL such as http://HOST:4317, or HOST:PORT", _is_target)
_QUEUE, _BATCH = "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"


def unusable(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that cannot be used, each with what is expected of it."""
    values = _of_otel(environment)
    kinds = _KINDS | _endpoints(values)
    wrong = {
        name: kinds[name].expected
        for name, text in values.items()
        if name in kinds and not (text.isprintable() and kinds[name].accepts(text))
    }
    queue, batch = (
        default if name in wrong else int(values.get(name, default))
        for name, default in ((_QUEUE, SPAN_QUEUE_SIZE), (_BATCH, _SPAN_BATCH_SIZE))
    )
    if batch > queue:
        wrong[_QUEUE if queue != SPAN_QUEUE_SIZE else _BATCH] = "a queue that holds a batch"
    return wrong


def _of_otel(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are set, without the space around them."""
    return {name: text.strip() for name, text in environment.items() if name.startswith("OTEL_") and text.strip()}


def _endpoints(values: Mapping[str, str]) -> dict[str, _Kind]:
    """Return what endpoints may be: it depends on the protocol."""
    general = values.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    kinds = {}
    for signal in _SIGNALS:
        protocol = values.get(f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL", general)
        kinds[f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT"] = _TARGET if protocol.lower() == "grpc" else _URL
    return kinds


@contextmanager
def usable(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Give the variables that can be used. The SDK sees these and no others while the block runs."""
    wrong = set(unusable(environment))
    if {_QUEUE, _BATCH} & wrong:
        wrong |= {_QUEUE, _BATCH}  # one alone may not go with the default of the other
    variables = {name: text for name, text in _of_otel(environment).items() if name not in wrong}
    with _seen(variables):
        yield variables


@contextmanager
def _seen(variables: Mapping[str, str]) -> Iterator[None]:
    """Let these be the process's `OTEL_*` variables while the block runs."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("OTEL_")}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(before)


def tell_unusable(environment: Mapping[str, str]) -> None:
    """Log a warning for each variable that cannot be used."""
    for name, expected in unusable(environment).items():
        _log.warning("%s cannot be used and counts as not set: expected %s", name, expected)


def made(what: str, variables: Mapping[str, str], make: Callable[[Mapping[str, str]], Made]) -> Made:
    """Make something as the variables say; where that fails, warn, and make it as if there were none.

    Args:
        what: what the log calls it.
        variables: those that can be used, as far as is known.
        make: makes it.
    """
    try:
        return make(variables)
    except Exception as error:  # noqa: BLE001 - whatever a library of telemetry raises, the sidecar serves
        names = ", ".join(sorted(variables)) or "no variable"
        _log.warning(
            "%s: none of the variables is used, since the SDK raises %s for %s", what, type(error).__name__, names
        )
        with _seen({}):
            return make({})
