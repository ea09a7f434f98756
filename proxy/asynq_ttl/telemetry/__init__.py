"""Tells what happened: counts, spans, metrics, the latest entries, log lines.

It is told through `events` and knows nobody who tells. The only importer of OpenTelemetry; may import `events` and
the rows below.
"""
