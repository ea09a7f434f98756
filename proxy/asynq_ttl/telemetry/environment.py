"""Which `OTEL_*` numbers of batches and intervals cannot be used.

Invariant: telemetry never keeps a sidecar from serving. The SDK raises for these; so they are taken out, told once each
by their names, and the SDK's defaults are in force.
"""

from collections.abc import MutableMapping

# What the SDK's batches and readers take only above zero, with its defaults.
_POSITIVE = {
    "OTEL_BSP_SCHEDULE_DELAY": 5_000,
    "OTEL_BSP_MAX_QUEUE_SIZE": 2_048,
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": 512,
    "OTEL_BSP_EXPORT_TIMEOUT": 30_000,
    "OTEL_METRIC_EXPORT_INTERVAL": 60_000,
    "OTEL_METRIC_EXPORT_TIMEOUT": 30_000,
}
_MOST = 2**31 - 1
_QUEUE, _BATCH = "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"


def drop_unusable(environment: MutableMapping[str, str]) -> list[str]:
    """Take out the numbers that cannot be used; return a line for each."""
    told = []
    for name, default in _POSITIVE.items():
        text = environment.get(name, "").strip()
        if text and not (text.isascii() and text.isdigit() and len(text) <= 10 and 0 < int(text) <= _MOST):
            del environment[name]
            told.append(f"{name} is no number from 1 to {_MOST}: the default {default} is used")
    queue, batch = (int(environment.get(name, "").strip() or _POSITIVE[name]) for name in (_QUEUE, _BATCH))
    if batch > queue:
        name = _QUEUE if environment.get(_QUEUE, "").strip() else _BATCH
        for dropped in (_QUEUE, _BATCH):
            environment.pop(dropped, None)
        told.append(f"{name}: a batch of {batch} spans is more than a queue of {queue}; the defaults are used")
    return told
