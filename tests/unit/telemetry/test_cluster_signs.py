"""Signs of a cluster: counted always, told at times."""

import pytest

from asynq_ttl.telemetry.cluster_signs import ClusterSigns, Sign


def test_each_sign_is_told_once_and_counted_always(caplog: pytest.LogCaptureFixture) -> None:
    """A client that asks all the time does not fill the log."""
    signs = ClusterSigns()
    for _ in range(3):
        for sign in Sign:
            signs.note(sign)
    assert signs.seen == {"mode": 3, "topology": 3, "redirect": 3}
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert all(line.startswith("no Redis Cluster: ") for line in lines)


def test_where_a_cluster_is_served_nothing_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Signs are counted all the same."""
    signs = ClusterSigns(served=True)
    signs.note(Sign.REDIRECT)
    assert signs.seen["redirect"] == 1
    assert caplog.records == []
