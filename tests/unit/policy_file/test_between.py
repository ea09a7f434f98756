import pytest

import asynq_ttl.policy_file.between
from asynq_ttl.policy.rules import Mode, State
from asynq_ttl.policy_file.load import parse_policy
from support.policy_text import fault_of, faults_of


@pytest.mark.parametrize("rules", ["", "rules: []\n", "rules:\n"])
def test_a_policy_that_is_off_needs_no_rules(rules: str) -> None:
    """A pure pass-through decides nothing; and `off` is not YAML's false."""
    policy = parse_policy(f"version: 1\nmode: off\n{rules}", "FILE")
    assert (policy.mode, policy.rules) == (Mode.OFF, ())


@pytest.mark.parametrize("rules", ["", "rules:\n", "rules: []\n"])
def test_a_policy_without_rules_is_a_fault(rules: str) -> None:
    """It would decide nothing, which is what `mode: off` says openly."""
    expected = "no rule: nothing would be decided; write a rule, or use mode: off"
    assert fault_of(f"version: 1\n{rules}") == f"{2 if rules else 1}: {expected}"


def test_there_is_a_limit_to_the_number_of_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared with each other stays a number that is compared quickly."""
    monkeypatch.setattr(asynq_ttl.policy_file.between, "_MAX_RULES", 2)
    rules = "".join(f"  - {{name: r{i}, match: {{queue: q{i}}}, archived: {{ttl: 7d}}}}\n" for i in range(3))
    assert fault_of(f"version: 1\nrules:\n{rules}") == "5: more than 2 rules; use globs, or lists of globs"


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (
            ["archived: {ttl: 1d}", "match: {queue: q}, archived: {ttl: 7d}"],
            "4: rule r1: can never be reached because of rule r0 (line 3); move it up or remove it",
        ),
        (
            ['match: {queue: "*"}, archived: {ttl: 1d}', "archived: {ttl: 7d}"],
            "4: rule r1: can never be reached because of rule r0 (line 3); move it up or remove it",
        ),
        (
            ["archived: {ttl: 1d}", "archived: {ttl: 7d}, completed: {ttl: 7d}"],
            (
                "4: rule r1: archived: can never be reached because of rule r0 (line 3); "
                "move the rule up or remove this line"
            ),
        ),
        (
            ["archived: {ttl: 1d}", "completed: {ttl: 1d}", "archived: {ttl: 7d}, completed: {ttl: 7d}"],
            (
                "5: rule r2: can never be reached because of rule r0 (line 3) and rule r1 (line 4); "
                "move it up or remove it"
            ),
        ),
        (
            [
                "match: {queue: a, type: x}, archived: {ttl: 1d}",
                'match: {queue: [b, a], type: "y*"}, archived: {ttl: 1d}',
                "match: {queue: b, type: x}, archived: {ttl: 1d}",
                "match: {queue: [a, b], type: [x, yy]}, archived: {ttl: 1d}",
            ],
            (
                "6: rule r3: can never be reached because of rule r0 (line 3) and rule r1 (line 4) "
                "and rule r2 (line 5); move it up or remove it"
            ),
        ),
    ],
)
def test_a_rule_that_can_never_decide_is_a_fault(rules: list[str], expected: str) -> None:
    """The earlier rules that leave nothing to it are named; where it is one state only, that state is."""
    text = "".join(f"  - {{name: r{number}, {rule}}}\n" for number, rule in enumerate(rules))
    assert fault_of(f"version: 1\nrules:\n{text}") == expected


def test_a_rule_is_reached_if_earlier_ones_leave_it_anything() -> None:
    """One queue, type or state that is left is enough."""
    text = """\
version: 1
rules:
  - {name: a, match: {queue: a}, archived: {ttl: 1d}}
  - {name: b, match: {queue: [a, b]}, archived: {ttl: 1d}}
  - {name: c, match: {type: c}, archived: {ttl: 1d}}
  - {name: d, match: {queue: c}, archived: {ttl: 1d}}
  - {name: e, match: {queue: a}, completed: {ttl: 1d}}
"""
    assert parse_policy(text, "FILE").decide("c", "x", State.ARCHIVED) is not None


def test_a_rule_with_an_unclear_match_hides_nothing() -> None:
    """A misspelled key would otherwise bring faults about rules that are right."""
    text = "version: 1\nrules:\n  - {name: a, match: {queues: q}, archived: {ttl: 1d}}\n"
    assert "did you mean queue?" in fault_of(f"{text}  - {{name: b, archived: {{ttl: 1d}}}}\n")


def test_a_cap_beside_a_type_is_told_even_if_both_are_wrong_otherwise() -> None:
    """The faults of values do not hide what is wrong between them."""
    faults = faults_of("version: 1\nrules:\n  - {name: a, match: {type: ''}, archived: {max: 0}}\n")
    assert len(faults) == 3
    assert any("cannot cap the archive" in fault for fault in faults)


def test_each_state_is_hidden_by_itself() -> None:
    """What is said about tasks without a Retention hides nothing that is said about completed ones."""
    text = "version: 1\nrules:\n  - {name: a, done: {ttl: 1d}}\n  - {name: b, completed: {ttl: 1d}, done: {ttl: 2d}}\n"
    assert fault_of(text) == (
        "4: rule b: done: can never be reached because of rule a (line 3); move the rule up or remove this line"
    )
