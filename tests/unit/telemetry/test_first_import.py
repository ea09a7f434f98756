"""OpenTelemetry is imported whatever its variables say."""

import os
import subprocess
import sys


def test_it_imports_with_variables_that_cannot_be_used() -> None:
    """Without a word, and the variables are there afterwards."""
    code = "import os, asynq_ttl.telemetry.first_import; print(os.environ['OTEL_PYTHON_CONTEXT'])"
    variables = {"OTEL_PYTHON_CONTEXT": "nonsense", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "nonsense"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | variables, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"nonsense\n", b"")
