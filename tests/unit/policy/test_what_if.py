"""What a policy would do with the tasks that were seen."""

from asynq_ttl.policy.what_if import NO_RULE, PolicyReport, compare, horizons, policy_in_force
from support.counted_tasks import ASKED, CENSUS, DAY, IN_FORCE


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
