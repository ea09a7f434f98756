"""What libraries may log: no piece of a secret of the environment."""

import logging
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.telemetry.redaction import Redaction, pieces_of_secrets

HEADERS = {"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer s3s4me"}


def said(environment: dict[str, str], message: str, *arguments: object, name: str = "opentelemetry.x") -> str:
    """Return what is logged of a line."""
    record = logging.LogRecord(name, logging.ERROR, "", 0, message, arguments, None)
    return formatter(environment).format(record)


def formatter(environment: dict[str, str]) -> Redaction:
    """Return what makes lines."""
    return Redaction(logging.Formatter(), environment)


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer s3s4me", "bad header s3s4me"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "key=s3s4%20me", "bad header s3s4 me"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:s3s4me@h:1", "no answer of me:s3s4me@h"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://me:s3s/4me@h:1", "cannot cast 's3s'"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h/?key=s3s4me", "with url: /?key=s3s4me"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "me:s3s4me@h:1", "unknown target me:s3s4me@h"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:12/s3s4me@h:1", "with url: /s3s4me@h:1"),
        ("https_proxy", "http://me:s3s4me@h:1", "no proxy me:s3s4me@h"),
        ("HTTP_PROXY", "http://s3s4me@h:1", "no proxy s3s4me@h"),
        ("ASYNQ_TTL_UPSTREAM", "redis://:s3s[4me@h", "netloc s3s[4me@h"),
        ("ASYNQ_TTL_SINK", "https://h/?token=s3s4me", "got https://h/?token=s3s4me"),
        ("ASYNQ_TTL_ADMIN_TOKEN", "s3s4me", "s3s4me"),
    ],
)
def test_a_line_that_repeats_a_secret_is_left_out(variable: str, value: str, line: str) -> None:
    """Whole or a piece of it; what else is said stays."""
    assert said({variable: value}, "oh: %s", line) == "a line that repeats a credential of the environment is left out"
    assert said({variable: value}, "oh: %s", "no answer") == "oh: no answer"


def test_a_traceback_that_repeats_one_is_left_out_too() -> None:
    """The exception's text is in it."""
    try:
        int("s3s4me")
    except ValueError:
        record = logging.LogRecord("requests", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    assert "s3s4me" in logging.Formatter().format(record)
    assert "s3s4me" not in formatter(HEADERS).format(record)


def test_our_own_lines_are_not_looked_at() -> None:
    """They name no secret, and each of them matters."""
    assert said(HEADERS, "s3s4me", name="asynq_ttl.server") == "s3s4me"


def test_what_cannot_be_formatted_is_the_handlers_to_tell() -> None:
    """It catches that, and writes where the mistake is."""
    record = logging.LogRecord("x", logging.ERROR, "", 0, "%d", ("no number",), None)
    with pytest.raises(TypeError, match="number"):
        formatter(HEADERS).format(record)


def test_what_is_in_every_line_is_no_secret() -> None:
    """Nor is the user's name, where there is a password."""
    environment = {**HEADERS, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:a@collector/v1/traces", "HOME": "/s3s4me"}
    assert set(pieces_of_secrets(environment)) == {"Authorization=Bearer s3s4me", "s3s4me"}


@given(st.text("QXZJ0124/@:#?%[]&=, ", min_size=3, max_size=24))
def test_no_word_of_a_password_is_logged(secret: str) -> None:
    """Whatever a parser takes for a host, a port or a name."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://me:{secret}@h"}
    for word in re.findall(r"\w{3,}", secret):
        assert word not in said(environment, "oh %s", word)
