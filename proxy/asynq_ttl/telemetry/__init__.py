"""Tells what happened: counts, spans, metrics, the latest entries, log lines.

It is told through `events` and knows nobody who tells. The only importer of OpenTelemetry; may import `events` and
the rows below.

OpenTelemetry reads some variables when it is imported, and raises for some values. So it is imported here, before any
module of this package needs it, with only the variables that can be used.
"""

import os

from asynq_ttl.telemetry.environment import usable

with usable(os.environ):
    import opentelemetry.context
    import opentelemetry.sdk.trace  # noqa: F401
