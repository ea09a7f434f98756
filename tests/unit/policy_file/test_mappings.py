import pytest

from asynq_ttl.policy.rules import Keep, Retention, State
from asynq_ttl.policy_file.load import parse_policy
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


@pytest.mark.parametrize("state", ["archived", "completed", "done"])
@pytest.mark.parametrize(
    ("word", "replaces"), [("", False), (", on_conflict: refuse", False), (", on_conflict: replace", True)]
)
def test_a_rule_says_what_becomes_of_a_conflict(state: str, word: str, replaces: bool) -> None:
    """By default an enqueue is refused."""
    [rule] = parse_policy(f"version: 1\nrules:\n  - {{name: r, {state}: {{ttl: 1d{word}}}}}\n", "p").rules
    assert rule.says(State(state)) == Retention(Keep.TTL, 86_400, replaceable=replaces)


def test_a_word_that_is_none_is_a_fault() -> None:
    """With what could be meant."""
    rule = "version: 1\nrules:\n  - {name: r, archived: {ttl: 1d, on_conflict: replaced}}\n"
    assert "replaced is no way to meet a conflict; write one of refuse, replace, did you mean replace?" in fault_of(
        rule
    )
