"""Imports OpenTelemetry with only the variables that can be used: it reads some when it is imported, and may raise.

Whoever runs a sidecar imports this before anything else that imports OpenTelemetry, as redis-py does.
"""

import os

from asynq_ttl.telemetry.environment import usable

with usable(os.environ):
    import opentelemetry.context
    import opentelemetry.sdk.trace  # noqa: F401
