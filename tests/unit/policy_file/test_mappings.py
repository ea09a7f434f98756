import pytest

from asynq_ttl.policy.rules import Keep, Retention
from support.policy_text import fault_of, faults_of, of_rule


@pytest.mark.parametrize("match", ["", "match: {}, ", 'match: {queue: "*"}, ', 'match: {type: ["a", "**"]}, '])
def test_a_rule_can_match_everything(match: str) -> None:
    """No match, an empty one and a lone `*` are the same to the policy."""
    rule = of_rule(match + "archived: {ttl: 7d}")
    assert (rule.queues, rule.types) == ((), ())


def test_a_cap_alone_keeps_asynqs_time() -> None:
    """`archived: {max: N}` means `ttl: keep`."""
    rule = of_rule("archived: {max: 5}")
    assert (rule.archived, rule.archived_max) == (Retention(Keep.OWN), 5)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("{a: b}", "rules: a mapping is not a list; start each rule with `- name:`"),
        ("[a]", "a is not a rule; a rule is a mapping with `name:` and more"),
        ("[[]]", "a list is not a rule; a rule is a mapping with `name:` and more"),
    ],
)
def test_rules_are_a_list_of_mappings(rules: str, expected: str) -> None:
    """Anything else is told by what it is."""
    assert fault_of(f"version: 1\nrules: {rules}\n") == f"2: {expected}"


def test_no_fault_hides_another() -> None:
    """Not in a list, not in a mapping, and not in one beside it: what is missing, unknown and wrong comes together."""
    rules = "  - {archived: {ttl: 7, top: 1}, match: {queue: [7, '', a]}}\n  - 5\n"
    assert [fault.partition(";")[0] for fault in faults_of(f"mode: x\nrules:\n{rules}")] == [
        "1: `version` is missing",
        "1: mode: x is no mode",
        "3: rule number 1: `name` is missing",
        "3: rule number 1: archived.ttl: 7 is a bare number",
        "3: rule number 1: archived: unknown key top",
        "3: rule number 1: match.queue: '' is no glob",
        "3: rule number 1: match.queue: 7 is not text",
        "4: 5 is not a rule",
    ]
