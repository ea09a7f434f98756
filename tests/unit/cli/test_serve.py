import subprocess
import sys


def test_a_sidecar_imports_only_what_it_needs() -> None:
    """What only some need comes when it is asked for: the admin server, a webhook, exporters, tables."""
    code = "import sys; import asynq_ttl.cli.serve; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "asynq_ttl.sidecar.sidecar" in loaded
    assert not {"aiohttp", "rich", "grpc", "requests", "prometheus_client", "asynq_ttl.sidecar.admin.server"} & loaded
