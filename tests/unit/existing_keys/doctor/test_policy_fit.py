"""Whether a policy fits the tasks of a sample."""

import pytest

from asynq_ttl.existing_keys.doctor.policy_fit import check_globs, check_times
from asynq_ttl.existing_keys.doctor.sample import Sample
from asynq_ttl.existing_keys.findings import Severity
from asynq_ttl.policy.rules import Policy
from asynq_ttl.policy_file.load import parse_policy

HOUR = 3_600


def policy_of(*rules: str) -> Policy:
    """Return a policy with these rules."""
    return parse_policy("version: 1\nrules:\n" + "".join(f"  - {rule}\n" for rule in rules), "policy.yaml")


MAIL = "{name: mail, match: {type: 'mail:*'}, archived: {ttl: 10m}, completed: {ttl: 1h}}"
REST = "{name: rest, archived: {ttl: 7d}, completed: {ttl: keep}}"


def test_every_rule_matches_and_every_type_has_one() -> None:
    """It is fine, and how much was looked at is said."""
    sample = Sample(tasks=2, kinds={("q", "mail:send"), ("q", "other")})
    found = list(check_globs(policy_of(MAIL, REST), sample))
    assert [(finding.code, finding.severity) for finding in found] == [("policy", Severity.FINE)]
    assert "2 types" in found[0].what


def test_a_rule_that_matches_no_task() -> None:
    """A typing error looks like this; what there is stands beside it."""
    sample = Sample(tasks=1, kinds={("q", "mial:send")})
    found = list(check_globs(policy_of(MAIL, REST), sample))
    assert [(finding.code, finding.severity) for finding in found] == [("idle-rules", Severity.WARNING)]
    assert "mail" in found[0].what
    assert found[0].examples == ["q: mial:send"]


@pytest.mark.parametrize(
    ("rule", "codes"),
    [
        ("{name: noise, match: {type: 'ping:*'}, archived: {ttl: delete}}", ["policy"]),
        ("{name: noise, match: {type: 'ping:*'}, archived: {ttl: delete}, completed: {ttl: 1h}}", ["idle-rules"]),
        ("{name: noise, match: {type: 'ping:*'}, done: {ttl: keep}}", ["policy"]),
        ("{name: noise, match: {type: 'ping:*'}, done: {ttl: 1h}}", ["idle-rules"]),
    ],
)
def test_a_rule_that_deletes_leaves_nothing_to_match(rule: str, codes: list[str]) -> None:
    """Its tasks are gone, so that none is there proves nothing."""
    found = check_globs(policy_of(rule, REST), Sample(tasks=1, kinds={("q", "x")}))
    assert [finding.code for finding in found] == codes


def test_without_tasks_no_rule_is_idle() -> None:
    """An empty database proves nothing either."""
    assert [finding.code for finding in check_globs(policy_of(MAIL, REST), Sample())] == ["policy"]


def test_types_that_no_rule_decides_about() -> None:
    """For each state, and that only a part was looked at is said."""
    sample = Sample(tasks=1_500, whole=False, kinds={("q", "mail:send"), ("q", "other")})
    found = list(check_globs(policy_of(MAIL), sample))
    assert [(finding.code, finding.severity) for finding in found] == [("unmatched-types", Severity.NOTICE)]
    assert "(of 1,500 tasks looked at)" in found[0].what
    assert (found[0].count, found[0].examples) == (2, ["q: other (completed)", "q: other (archived)"])


@pytest.mark.parametrize(("seconds", "codes"), [(600, []), (601, ["shorter-than-lock"])])
def test_a_lock_that_outlasts_the_archive(seconds: int, codes: list[str]) -> None:
    """The lock is freed with the task, so it ends early."""
    sample = Sample(locks={("q", "mail:send"): seconds})
    found = list(check_times(policy_of(MAIL), sample))
    assert [finding.code for finding in found] == codes
    assert all("rule mail" in finding.examples[0] for finding in found)


@pytest.mark.parametrize(("seconds", "codes"), [(600, []), (HOUR, ["shorter-than-retry"])])
def test_a_retry_that_outlasts_the_archive(seconds: int, codes: list[str]) -> None:
    """A failure is forgotten before the next attempt."""
    found = list(check_times(policy_of(MAIL), Sample(waits={("q", "mail:send"): seconds})))
    assert [finding.code for finding in found] == codes


def test_deleting_at_once_is_shorter_than_any_lock() -> None:
    """It is called by its name."""
    found = list(check_times(policy_of("{name: noise, archived: {ttl: delete}}"), Sample(locks={("q", "x"): 60})))
    assert "deleted by rule noise" in found[0].examples[0]


@pytest.mark.parametrize("rule", ["{name: all, archived: {ttl: forever}}", "{name: all, completed: {ttl: 1m}}"])
def test_what_is_kept_for_ever_or_by_asynq_is_long_enough(rule: str) -> None:
    """No lock is measured against it."""
    assert not list(check_times(policy_of(rule), Sample(locks={("q", "x"): 60}, waits={("q", "x"): 60})))
