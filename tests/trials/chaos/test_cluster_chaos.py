"""Short runs of the trials with a cluster (`make cluster-failover` has the long ones): nothing goes wrong."""

import json
from pathlib import Path

import pytest

from trials.chaos.cluster_trial import CLUSTER_STRIKES, ClusterTrial
from trials.chaos.trial import Plan, report_of


@pytest.mark.timeout(600)
@pytest.mark.parametrize("strike", CLUSTER_STRIKES)
def test_through_the_sidecar_every_task_of_a_cluster_is_found(strike: str, tmp_path: Path) -> None:
    """Each that had to survive is there, ended as its kind ends, with the TTL of its rule; live ones have none."""
    plan = Plan("sidecar", strike, tasks=1_500, hasten=True, server="redis", folder=tmp_path)
    report = report_of(plan, ClusterTrial)
    assert report.faults == [], json.dumps(report.errors)
    assert report.accepted == plan.tasks
    assert min(report.places[state] for state in ("archived", "completed", "gone")) > 100
    # What was accepted before a failover, and no replica had, may be missing; without a failover nothing may.
    assert strike == "kill" or report.unreplicated == 0
