"""How a queue's archive is trimmed."""

import pytest

from asynq_ttl.policy.archive_limits import ArchiveLimits


@pytest.mark.parametrize(("cutoff", "outlasts"), [(None, True), (11, True), (10, False), (9, False)])
def test_some_limits_outlast_asynq_s_own(cutoff: int | None, outlasts: bool) -> None:
    """Those without an age, and those with a greater one."""
    limits = ArchiveLimits(cutoff, cutoff_own=False, cap=None, uncapped=False, spare_untimed=False)
    assert limits.outlasts(10) is outlasts
