import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import asynq_ttl.policy_file.between
import asynq_ttl.policy_file.yaml_tree
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import FULL_ROLLOUT, Keep, Mode, Policy, Retention, Rule, State
from asynq_ttl.policy_file.faults import Fault, PolicyError
from asynq_ttl.policy_file.load import load_policy, parse_policy

DAY = 86_400
VALID = "version: 1\nrules:\n  - {name: a, archived: {ttl: 7d}}\n"


def faults_of(text: str) -> list[str]:
    """Return the faults of a text as they are printed, without the file's name."""
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, "FILE")
    lines = str(caught.value).splitlines()
    assert lines == [str(fault) for fault in caught.value.faults]
    assert all(line.startswith("FILE:") for line in lines)
    return [line.removeprefix("FILE:") for line in lines]


def fault_of(text: str) -> str:
    """Return the only fault of a text."""
    (fault,) = faults_of(text)
    return fault


def of_rule(text: str) -> Rule:
    """Return the only rule of a policy whose rule is given in YAML's flow style, without its name."""
    (rule,) = parse_policy(f"version: 1\nrules:\n  - {{name: a, {text}}}\n", "FILE").rules
    return rule


def test_a_policy_is_read_whole() -> None:
    """Every key of the format arrives in the policy."""
    text = """\
version: 1
mode: shadow
grace: 90s
rollout: 12.5%
rules:
  - name: payments
    match: {queue: payments, type: ["payment:*", "refund:*"]}
    archived: {ttl: forever}
    completed: {ttl: 30d}
  - name: noise
    match:
      type: ping:*
    archived: {ttl: delete}
  - name: default
    archived: {ttl: 1d12h, max: 50000}
    completed: {ttl: keep}
"""
    policy = parse_policy(text, "policy.yaml")
    assert policy.rules == (
        Rule(
            "payments",
            (compile_glob("payments"),),
            (compile_glob("payment:*"), compile_glob("refund:*")),
            Retention(Keep.TTL, 30 * DAY),
            Retention(Keep.FOREVER),
        ),
        Rule("noise", (), (compile_glob("ping:*"),), None, Retention(Keep.DELETE)),
        Rule("default", (), (), Retention(Keep.OWN), Retention(Keep.TTL, 129_600), 50_000),
    )
    assert (policy.mode, policy.grace_seconds, policy.rollout) == (Mode.SHADOW, 90, 1_250)
    assert policy.source == "policy.yaml"
    assert policy.digest == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_what_is_left_out_has_defaults() -> None:
    """A policy enforces all tasks, with a minute of grace."""
    policy = parse_policy(VALID, "FILE")
    assert (policy.mode, policy.grace_seconds, policy.rollout) == (Mode.ENFORCE, 60, FULL_ROLLOUT)


@pytest.mark.parametrize("match", ["", "match: {}, ", 'match: {queue: "*"}, ', 'match: {type: ["a", "**"]}, '])
def test_a_rule_can_match_everything(match: str) -> None:
    """No match, an empty one and a lone `*` are the same to the policy."""
    rule = of_rule(match + "archived: {ttl: 7d}")
    assert (rule.queues, rule.types) == ((), ())


def test_a_cap_alone_keeps_asynqs_time() -> None:
    """`archived: {max: N}` means `ttl: keep`."""
    rule = of_rule("archived: {max: 5}")
    assert (rule.archived, rule.archived_max) == (Retention(Keep.OWN), 5)


@pytest.mark.parametrize("rules", ["", "rules: []\n", "rules:\n"])
def test_a_policy_that_is_off_needs_no_rules(rules: str) -> None:
    """A pure pass-through decides nothing; and `off` is not YAML's false."""
    policy = parse_policy(f"version: 1\nmode: off\n{rules}", "FILE")
    assert (policy.mode, policy.rules) == (Mode.OFF, ())


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


@pytest.mark.parametrize("word", ["off", "on", "yes", "no", "1:30", "2026-01-01", "0x10", "1_000", "="])
def test_words_that_yaml_takes_for_something_else_stay_text(word: str) -> None:
    """A queue can have any name without quotes that looks like a word."""
    assert of_rule(f"match: {{queue: {word}}}, archived: {{ttl: 7d}}").queues == (compile_glob(word),)


def test_anchors_aliases_and_merge_keys_work() -> None:
    """A rule's own keys win over merged ones, and the first of several merged mappings wins."""
    text = """\
version: 1
rules:
  - &first
    name: first
    match: &match {queue: a}
    archived: &week {ttl: 7d}
  - {<<: *first, name: second, match: {queue: b}, completed: *week}
  - {<<: [{match: {queue: c}}, *first], "name": third}
"""
    week = Retention(Keep.TTL, 7 * DAY)
    assert parse_policy(text, "FILE").rules == (
        Rule("first", (compile_glob("a"),), (), None, week),
        Rule("second", (compile_glob("b"),), (), week, week),
        Rule("third", (compile_glob("c"),), (), None, week),
    )


def test_every_fault_of_a_file_is_told_in_the_order_of_its_lines() -> None:
    """Faults of the document, of values and between rules come together, one line each."""
    text = """\
version: 2
mod: off
grace: 0
rules:
  - name: a
    match: {typ: x}
    archived: keep
    completed: {max: 3}
  - archived: {ttl: 7, max: true}
    match: {type: [], queue: 7}
  - name: a
  - name: b
    archived: {ttl: 1:30}
  - name: c
    match: {queue: x}
    archived: {ttl: 0}
"""
    assert faults_of(text) == [
        "1: version: 2 is not supported; this release reads version: 1",
        "2: unknown key mod; did you mean mode?",
        "3: grace: 0 is a bare number; a duration needs a unit, did you mean 1s?",
        "6: rule a: match: unknown key typ; did you mean type?",
        "7: rule a: archived: keep is not a mapping; write {ttl: keep}",
        "8: rule a: completed: `ttl` is missing; write {ttl: keep}, or leave `completed` out",
        (
            "8: rule a: completed: unknown key max; "
            "only the archive can be capped: completed tasks go by their ttl alone"
        ),
        "9: rule number 2: `name` is missing; traces and metrics show a rule by its name",
        (
            "9: rule number 2: archived.max: a rule that matches on type cannot cap the archive; "
            "the archive is one per queue: put max in a rule without type"
        ),
        "9: rule number 2: archived.max: true is not a whole number; write how many entries to keep: 50000",
        "9: rule number 2: archived.ttl: 7 is a bare number; a duration needs a unit, did you mean 7d?",
        "10: rule number 2: match.queue: 7 is not text; a glob is text, quote it",
        (
            "10: rule number 2: match.type: a list of 0 globs; "
            "write 1 to 100 globs, or leave the key out to match everything"
        ),
        "11: rule a: says nothing; give it archived: {ttl: ...} or completed: {ttl: ...}",
        "11: the name a is taken by the rule on line 5; traces and metrics tell rules apart by their names",
        "13: rule b: archived.ttl: 1:30 looks like a time of day; a duration has units, such as 1h30m or 90s",
        "14: rule c: can never be reached because of rule b (line 12); move it up or remove it",
        (
            "16: rule c: archived.ttl: 0 keeps nothing; a duration needs a unit and is at least 1s, "
            "did you mean 7d? To remove tasks at once write delete"
        ),
    ]


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
        ("grace: 60", "grace: 60 is a bare number; a duration needs a unit, did you mean 60s?"),
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
        ("wibble: red", "unknown key wibble; the keys here are version, mode, grace, rollout, rules"),
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


@pytest.mark.parametrize("rules", ["", "rules:\n", "rules: []\n"])
def test_a_policy_without_rules_is_a_fault(rules: str) -> None:
    """It would decide nothing, which is what `mode: off` says openly."""
    expected = "no rule: nothing would be decided; write a rule, or use mode: off"
    assert fault_of(f"version: 1\n{rules}") == f"{2 if rules else 1}: {expected}"


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1: nothing where a policy is a mapping; start the file with version: 1"),
        ("# nothing\n", "1: nothing where a policy is a mapping; start the file with version: 1"),
        ("\n\nhello", "3: hello where a policy is a mapping; start the file with version: 1"),
        ("- 1", "1: a list where a policy is a mapping; start the file with version: 1"),
        ("version: 1\nrules:\n\t- name: a\n", "3: a tab where YAML allows only spaces; indent with spaces"),
        ("version: 1\n---\nversion: 1\n", "2: found another document; a policy file is one document without"),
        (
            "%FOO\nversion: 1",
            "2: expected '<document start>', but found '<scalar>'; a policy file is one document",
        ),
        ("version: 1\nmode: *x\n", "2: found undefined alias 'x'; a glob that starts with * needs quotes"),
        (
            "a:\n  type: *\n",
            "2: expected alphabetic or numeric character, but found '\\n'; a glob that starts",
        ),
        ("version: 1\nmode: 'x\n\n\n", "2: found unexpected end of stream; look at indentation"),
        ("version: 1\nrules\n", "2: could not find expected ':'; look at indentation"),
        ("version: 1\n  mode: off\n", "2: mapping values are not allowed here; look at indentation"),
        ("a: [}", "1: expected the node content, but found '}'; look at indentation"),
        ("version: 1\nmode: \x01\n", "2: this line holds a control character; remove it"),
        ("version: 1\n\ud800", "2: this line holds a control character; remove it"),
        ('version: 1\nmode: "\\UFFFFFFFF"\n', "2: this escape is no character; remove it"),
        ('version: 1\nmode: "\\U00110000"\n', "2: this escape is no character; remove it"),
        ("[" * 100_000, "1: this is nested too deeply; look at indentation"),
        ("version: 1\n" + "a: " + "[" * 40 + "]" * 40, "2: this is nested too deeply; look at indentation"),
        ("version: &a [*a]", "1: aliases repeat too much; write the values out"),
        ("&a {<<: *a, version: 1}", "1: aliases repeat too much; write the values out"),
    ],
)
def test_what_is_no_yaml_of_a_policy_is_one_clear_line(text: str, expected: str) -> None:
    """The line is where a person would look, the hint names the likeliest cause."""
    assert fault_of(text).startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "version: !!int x",
            "the YAML tag tag:yaml.org,2002:int does not fit here; remove it, or quote the text",
        ),
        (
            "version: !!bool x",
            "the YAML tag tag:yaml.org,2002:bool does not fit here; remove it, or quote the text",
        ),
        (
            "version: !!python/name:os.system x",
            "the YAML tag tag:yaml.org,2002:python/name:os.system does not",
        ),
        ("version: !mine x", "the YAML tag !mine does not fit here; remove it, or quote the text"),
    ],
)
def test_a_tag_that_does_not_fit_is_a_fault(text: str, expected: str) -> None:
    """No tag makes anything but null, true, false, a number or text."""
    assert any(fault.startswith(f"1: {expected}") for fault in faults_of(text))


def test_a_key_that_is_there_twice_is_a_fault() -> None:
    """The second is not silently preferred; both lines are told."""
    assert fault_of(f"version: 1\n{VALID}") == "2: the key version is here twice; the first is on line 1"


@pytest.mark.parametrize("bomb", ["[{}]", "{{<<: [{}]}}"], ids=["values", "merge keys"])
def test_aliases_of_aliases_are_refused_quickly(bomb: str) -> None:
    """A small file cannot become a large policy."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {bomb.format(','.join([f'*a{n - 1}'] * 9))}" for n in range(1, 9)]
    assert "aliases repeat too much; write the values out" in fault_of("\n".join(lines))


def test_there_is_a_limit_to_the_number_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long file is refused while it is read."""
    monkeypatch.setattr(asynq_ttl.policy_file.yaml_tree, "_MAX_VALUES", 10)
    assert fault_of("\n".join(["rules:", *["- x"] * 20])).startswith("9: these are too many values")


def test_a_fault_behind_an_alias_is_told_at_the_line_of_its_text() -> None:
    """That line has to change; each use of it is named."""
    text = """\
version: 1
rules:
  - name: a
    archived: &bad {ttl: 7}
    completed: *bad
  - name: b
    match: &match
      queue: '['
    archived: {ttl: 1d}
  - {name: c, match: *match, archived: {ttl: 1d}}
"""
    assert [fault.split(":")[0] for fault in faults_of(text)] == ["4", "4", "8", "8"]


def test_a_file_is_loaded(tmp_path: Path) -> None:
    """Its path is the source of the policy; a byte order mark and Windows line ends do no harm."""
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + VALID.replace("\n", "\r\n").encode())
    policy = load_policy(path)
    assert policy.source == str(path)
    assert policy.rules == parse_policy(VALID, "FILE").rules


def test_a_file_that_cannot_be_read_is_a_fault_without_a_line(tmp_path: Path) -> None:
    """The system's reason is told."""
    path = tmp_path / "missing.yaml"
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory; is the path right?"
    assert caught.value.faults[0].line == 0


def test_a_file_that_is_not_utf_8_is_a_fault_with_its_line(tmp_path: Path) -> None:
    """The line that holds the first wrong byte is told."""
    path = tmp_path / "latin-1.yaml"
    path.write_bytes("version: 1\n# ä\n".encode("latin-1"))
    with pytest.raises(PolicyError, match=r"latin-1\.yaml:2: this line is not UTF-8; save the file as UTF-8"):
        load_policy(path)


def test_a_file_over_1_mib_is_refused(tmp_path: Path) -> None:
    """It is read up to the limit only; a text of that size is refused as well."""
    text = "#" * (1 << 20) + "\n"
    path = tmp_path / "huge.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError, match=r"huge\.yaml: is larger than 1 MiB; is this a policy file"):
        load_policy(path)
    with pytest.raises(PolicyError, match=r"FILE: is larger than 1 MiB; is this a policy file"):
        parse_policy(text, "FILE")


def test_a_fault_is_printed_on_one_line() -> None:
    """What a file holds cannot break the lines of a terminal or a log."""
    assert str(Fault("a\nb", 3, "x\x1b[31m", "")) == "a\ufffdb:3: x\ufffd[31m"
    assert str(Fault("f", 0, "message", "hint")) == "f: message; hint"


KEYS = st.sampled_from(
    [
        "version",
        "mode",
        "grace",
        "rollout",
        "rules",
        "name",
        "match",
        "queue",
        "type",
        "archived",
        "completed",
        "ttl",
        "max",
    ]
)
SCALARS = st.sampled_from(
    ["1", "off", "7d", "keep", "50%", "''", "*x", "&x y", "[", "~", "-1", "true", "!!int z", "a b"]
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(KEYS, inner), max_size=4).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items) + "}"
        )
    ),
    max_leaves=20,
)


@given(st.text(max_size=60) | DOCUMENTS | DOCUMENTS.map(lambda rules: f"version: 1\nrules: [{rules}]"))
def test_any_text_is_a_policy_or_has_faults_with_lines(text: str) -> None:
    """Nothing else is ever raised, and each fault is one printable line inside the file."""
    try:
        policy: Policy | None = parse_policy(text, "FILE")
    except PolicyError as error:
        policy, faults = None, error.faults
    else:
        faults = ()
    assert (policy is None) == bool(faults)
    assert all(1 <= fault.line <= len(text.splitlines()) + 1 for fault in faults)
    assert all(str(fault).isprintable() and fault.hint for fault in faults)
    assert [fault.line for fault in faults] == sorted(fault.line for fault in faults)
