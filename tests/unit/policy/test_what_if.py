"""What a policy would do with the tasks that were seen."""

from typing import Any

import pytest

from asynq_ttl.policy.what_if import FORECAST_SECONDS, NO_RULE, PolicyReport, compare, horizons, policy_in_force
from support.counted_tasks import ASKED, CENSUS, DAY, IN_FORCE, kind


def bytes_of(report: PolicyReport) -> tuple[dict[str, int], dict[str, int]]:
    """Return the bytes by when they are free, without zeros: under the policy, and in force."""
    told = report.as_json()
    asked, now = (
        {name: size for name, size in told[part].items() if size} for part in ("freed_bytes", "freed_bytes_in_force")
    )
    return asked, now


def test_beside_asynqs_own_times() -> None:
    """In shadow mode tasks are really kept for as long as Asynq keeps them."""
    report = compare(CENSUS, ASKED, policy_in_force(ASKED, "shadow"))
    assert {(line.rule, line.state): (line.kept, line.tasks, line.size_bytes) for line in report.lines} == {
        ("mail", "archived"): ("1d", 10, 1_000),
        ("mail", "completed"): ("forever", 5, 500),
        ("noise", "archived"): ("delete", 3, 30),
        ("unused", "archived"): ("5d", 0, 0),
        (NO_RULE, "archived"): ("keep", 2, 20),
        (NO_RULE, "completed"): ("keep", 1, 7),
    }
    assert bytes_of(report) == (
        {"at once": 30, "within 1d": 1_000, "within 90d": 20, "later": 7, "never": 500},
        {"within 1h": 500, "within 90d": 1_050, "later": 7},
    )
    assert (report.tasks, report.others) == (21, 4)
    by_rule = {(line.rule, line.state): line for line in report.lines}
    mail = by_rule["mail", "archived"]
    assert (mail.byte_seconds, mail.byte_seconds_in_force) == (1_000 * DAY, 1_000 * 90 * DAY)
    assert by_rule["mail", "completed"].byte_seconds is None


def test_beside_a_policy_in_force() -> None:
    """A candidate is compared with the policy that is enforced."""
    report = compare(CENSUS, ASKED, policy_in_force(IN_FORCE, "enforce"))
    assert bytes_of(report)[1] == {"within 1h": 500, "within 7d": 1_050, "later": 7}


def test_the_names_of_horizons() -> None:
    """From at once to never."""
    names = list(horizons())
    assert (names[0], names[1], names[-2], names[-1]) == ("at once", "within 1h", "later", "never")


@pytest.mark.parametrize(("every", "own"), [(7, 30), (600, 3_600), (300, 100 * DAY)])
def test_a_forecast_is_what_a_simulated_month_leaves(every: int, own: int) -> None:
    """By the retention itself, be that seconds: of tasks that were seen for ten days, and go on to come as they did."""
    counts = (10 * DAY // every, 10 * DAY // every * 100)
    kinds = [kind("mail", "x", "archived", own, *counts), kind("mail", "x", "completed", own, *counts)]
    census: dict[str, Any] = {**CENSUS, "kinds": kinds}
    report = compare(census, ASKED, None)
    ended = range(0, FORECAST_SECONDS, every)
    for line, kept in zip(report.lines[:2], ASKED_SECONDS, strict=True):
        for ahead, life in ((line.ahead, kept), (line.ahead_in_force, own)):
            left = sum(life is None or since + life > FORECAST_SECONDS for since in ended)
            assert ahead.tasks == pytest.approx(left, rel=0.01, abs=1)
            assert ahead.size_bytes == pytest.approx(left * 100, rel=0.01, abs=100)


ASKED_SECONDS = (None, DAY)
"""For how long the rule for mail keeps completed and archived tasks, in the order of the report."""
