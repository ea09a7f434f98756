"""Numbers of `OTEL_*` that the SDK refuses are told and left out."""

import pytest

from asynq_ttl.telemetry.environment import drop_unusable


@pytest.mark.parametrize("value", ["0", "-1", "often", "1e3", "9" * 30])
@pytest.mark.parametrize("name", ["OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_METRIC_EXPORT_INTERVAL"])
def test_what_cannot_be_used_is_told_and_dropped(name: str, value: str) -> None:
    """Each has one line, which names the variable."""
    environment = {name: value}
    (line,) = drop_unusable(environment)
    assert line.startswith(name)
    assert environment == {}


def test_a_queue_holds_a_batch() -> None:
    """Else the SDK raises."""
    environment = {"OTEL_BSP_MAX_QUEUE_SIZE": "100"}
    (line,) = drop_unusable(environment)
    assert line.startswith("OTEL_BSP_MAX_QUEUE_SIZE")
    assert environment == {}


def test_what_can_be_used_stays() -> None:
    """And nothing is said."""
    environment = {
        "OTEL_BSP_MAX_QUEUE_SIZE": "100",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50",
        "OTEL_BSP_SCHEDULE_DELAY": "",
    }
    kept = dict(environment)
    assert drop_unusable(environment) == []
    assert environment == kept
