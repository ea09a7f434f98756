"""The sidecar as an object of the test's own process."""

from typing import Any

from asynq_ttl.net.address import parse_address, parse_upstream
from asynq_ttl.policy.rules import DEFAULT_POLICY, Policy
from asynq_ttl.sidecar.settings import Settings
from asynq_ttl.sidecar.sidecar import Sidecar
from asynq_ttl.telemetry.recorder import Telemetry


def make_sidecar(
    url: str = "redis://127.0.0.1:6379/0",
    policy: Policy = DEFAULT_POLICY,
    telemetry: Telemetry | None = None,
    **settings: Any,
) -> Sidecar:
    """Return a sidecar that does not run yet; `running()` runs it, at a port that is free.

    Args:
        url: of its upstream.
        policy: the policy in force.
        telemetry: who is told; one that exports nothing if there is none.
        settings: further fields of `Settings`.
    """
    upstream = parse_upstream(url)
    where = Settings(parse_address("127.0.0.1:0"), upstream, **settings)
    return Sidecar(where, policy, telemetry or Telemetry(upstream, {}))
