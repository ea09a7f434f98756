"""`asynq-ttl demo`: what the demo shows, and what is missing where it cannot run."""

import click

import asynq_ttl.telemetry.first_import  # noqa: F401 - before redis-py, which imports OpenTelemetry too
from asynq_ttl.cli.options import FAILED, fail


@click.command()
def demo() -> None:
    """Run real Asynq through a sidecar in front of an embedded Valkey and show what got which TTL."""
    try:
        from asynq_ttl.demo.demo import DemoError, run_demo  # noqa: PLC0415 - needs optional extras
        from asynq_ttl.demo.harness import HarnessError  # noqa: PLC0415
    except ImportError as error:
        fail(f"the demo needs more packages ({error.name}): pip install 'asynq-ttl[demo]'", FAILED)
    from asynq_ttl.cli.printing import console  # noqa: PLC0415 - no sidecar needs it

    try:
        right = run_demo(console())
    except (DemoError, HarnessError) as error:
        fail(str(error), FAILED)
    if not right:
        fail("some tasks do not have the TTL that the policy says", FAILED)
