import pytest

from asynq_ttl.policy_file.load import parse_policy
from support.policy_text import VALID, fault_of


@pytest.mark.parametrize(
    ("share", "rollout"),
    [
        ("0%", 0),
        ("0.01%", 1),
        ("1.5%", 150),
        ("50%", 5_000),
        ("99.99%", 9_999),
        ("100%", 10_000),
        ("100.0%", 10_000),
    ],
)
def test_a_rollout_is_counted_in_hundredths_of_a_percent(share: str, rollout: int) -> None:
    """Up to two decimals, and both ends are allowed."""
    assert parse_policy(f"rollout: {share}\n{VALID}", "FILE").rollout == rollout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "mode: enforced",
            "mode: enforced is no mode; the modes are enforce, shadow, off, did you mean enforce?",
        ),
        ("mode: false", "mode: false is no mode; the modes are enforce, shadow, off, did you mean off?"),
        ("mode: xyz", "mode: xyz is no mode; the modes are enforce, shadow, off"),
        ("mode: [a]", "mode: a list is no mode; the modes are enforce, shadow, off"),
        ("grace: 60", "grace: 60 is a bare number; a duration needs a unit, did you mean 60s, which is 1m?"),
        ("grace: 0s", "grace: 0s is no time at all; the shortest duration is 1s"),
        (
            "grace: keep",
            "grace: keep is not a duration; write a number and a unit, such as 90s, 36h, 7d or 1d12h",
        ),
        ("grace: {a: b}", "grace: a mapping is not a duration; write a number and a unit, such as 36h or 7d"),
        ("grace: true", "grace: true is not a duration; write a number and a unit, such as 36h or 7d"),
        (
            "rollout: 50",
            "rollout: 50 is no share; a share is 0% to 100%, with up to two decimals, did you mean 50%?",
        ),
        (
            "rollout: 101%",
            "rollout: 101% is no share; a share is 0% to 100%, with up to two decimals, such as 12.5%",
        ),
        (
            "rollout: true",
            "rollout: true is no share; a share is 0% to 100%, with up to two decimals, such as 12.5%",
        ),
        ("adopt: al", "adopt: al is not what can be adopted; write one of new, all, off, did you mean all?"),
        ("adopt: true", "adopt: true is not what can be adopted; write one of new, all, off"),
        ("adopt: [a]", "adopt: a list is not what can be adopted; write one of new, all, off"),
        ("wibble: red", "unknown key wibble; the keys here are version, mode, grace, rollout, adopt, rules"),
        ("7: x", "the key 7 is not text; the keys of a policy file are words"),
        ("? [a]\n: x", "the key a list is not text; the keys of a policy file are words"),
        ("<<: 7", "`<<` merges what is no mapping; write `<<: *anchor` of a mapping"),
    ],
)
def test_a_fault_at_the_top_is_explained(line: str, expected: str) -> None:
    """The message names the key and shows the value, the hint says what to write."""
    assert fault_of(f"{line}\n{VALID}") == f"1: {expected}"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("'1'", "the text '1' is not supported"),
        ("1.0", "1.0 is not supported"),
        ("true", "true is not supported"),
        ("", "nothing is not supported"),
    ],
)
def test_the_version_is_the_number_one(version: str, expected: str) -> None:
    """Nothing that only looks like it is taken for it."""
    assert expected in fault_of(VALID.replace("version: 1", f"version: {version}"))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("archived: {ttl: 0s}", "archived.ttl: 0s keeps nothing; a duration needs a unit and is at least 1s"),
        ("archived: {ttl: -7d}", "archived.ttl: -7d is negative"),
        ("archived: {ttl: -7}", "archived.ttl: -7 is negative"),
        ("archived: {ttl: 1.5}", "archived.ttl: 1.5 is a fraction"),
        ("archived: {ttl: 7y}", "archived.ttl: 7y has the unknown unit y; the units are w, d, h, m, s"),
        ("archived: {ttl: 12h1d}", "archived.ttl: 12h1d has its units out of order"),
        ("archived: {ttl: 5300w}", "archived.ttl: 5300w is more than 100 years"),
        ("archived: {ttl: forevr}", "archived.ttl: forevr is not a retention; did you mean forever?"),
        ("archived: {ttl: Keep}", "archived.ttl: Keep is not a retention; did you mean keep?"),
        ("archived: {ttl: ttl}", "archived.ttl: ttl is not a duration"),
        ("archived: {ttl: }", "archived.ttl: nothing is not a duration"),
        ("archived: {ttl: [7d]}", "archived.ttl: a list is not a duration"),
        (f"archived: {{ttl: {'9' * 5000}}}", f"archived.ttl: {'9' * 57}... is not a duration"),
        (
            "archived: {max: 0}",
            "archived.max: 0 is not from 1 to 1000000000; to keep nothing write {ttl: delete}",
        ),
        ("archived: {max: -1}", "archived.max: -1 is not from 1"),
        ("archived: {max: 1000000001}", "archived.max: 1000000001 is not from 1"),
        ("archived: {max: 1.5}", "archived.max: 1.5 is not a whole number"),
        ("archived: {max: 1_000}", "archived.max: 1_000 is not a whole number"),
        ("archived: {max: }", "archived.max: nothing is not a whole number"),
        ("archived: 7d", "archived: 7d is not a mapping; write {ttl: 7d}"),
        ("archived: ", "archived: nothing is not a mapping; write {ttl: keep}"),
        ("archived: true", "archived: true is not a mapping; write {ttl: keep}"),
        ("archived: {}", "archived: says nothing; write {ttl: keep}, or leave it out"),
        ("match: , archived: {ttl: 7d}", "match: nothing is not a mapping; write {queue: ...}"),
        ("match: q, archived: {ttl: 7d}", "match: q is not a mapping; write {queue: ...}"),
        ("match: {queue: '[ab'}, archived: {ttl: 7d}", "match.queue: '[ab' is no glob; the set that starts"),
        ("match: {queue: [a, '']}, archived: {ttl: 7d}", "match.queue: '' is no glob; an empty glob"),
        ("match: {queue: [[a]]}, archived: {ttl: 7d}", "match.queue: a list is not text"),
        (f"match: {{queue: [{'a,' * 101}]}}, archived: {{ttl: 7d}}", "match.queue: a list of 101 globs"),
        ("archive: {ttl: 7d}, completed: {ttl: 7d}", "unknown key archive; did you mean archived?"),
    ],
)
def test_a_fault_in_a_rule_is_explained(rule: str, expected: str) -> None:
    """The message names the rule and the key in it."""
    assert fault_of(f"version: 1\nrules:\n  - {{name: a, {rule}}}\n").startswith(f"3: rule a: {expected}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("7", "rule number 1: name: 7 is not text; a name is text, quote it"),
        ("''", "rule number 1: name: '' is no name; write 1 to 100 visible characters"),
        ("' a'", "rule  a: name: ' a' is no name"),
        ('"a\\nb"', "rule a\ufffdb: name: 'a\\nb' is no name"),
        ('"\\uD800"', "rule \ufffd: name: '\\ud800' is no name"),
        ("a" * 101, f"rule {'a' * 57}...: name: "),
    ],
)
def test_a_name_is_short_visible_text(name: str, expected: str) -> None:
    """It stands in traces, metrics and messages, so a fault about it stays on one line as well."""
    assert fault_of(f"version: 1\nrules:\n  - {{name: {name}, archived: {{ttl: 7d}}}}\n").startswith(f"3: {expected}")
