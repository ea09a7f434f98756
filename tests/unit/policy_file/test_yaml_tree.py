import pytest

import asynq_ttl.policy_file.yaml_tree
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import Keep, Retention, Rule
from asynq_ttl.policy_file.load import parse_policy
from asynq_ttl.policy_file.yaml_tree import read
from support.policy_text import VALID, fault_of, faults_of, of_rule

DAY = 86_400


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1: nothing where a policy is a mapping; start the file with version: 1"),
        ("# nothing\n", "1: nothing where a policy is a mapping; start the file with version: 1"),
        ("\n\nhello", "3: a single value where a policy is a mapping; start the file with version: 1"),
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


def test_every_path_has_the_line_of_its_key() -> None:
    """Of a mapping that is the key's line, of a list the item's."""
    tree = read("a: 1\nb:\n  - x\n  - c:\n      2\n", "FILE")
    assert tree.data == {"a": 1, "b": ["x", {"c": 2}]}
    assert tree.lines == {(): 1, ("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 1): 4, ("b", 1, "c"): 4}


def test_a_fault_at_a_path_that_is_not_there_is_told_at_the_nearest_above() -> None:
    """A key that is missing has no line of its own."""
    tree = read("a: 1\nb:\n  - c: 2\n", "FILE")
    tree.blame(("b", 0, "d"), "missing", "write it")
    tree.blame(("e", 7), "missing", "write it")
    assert sorted(map(str, tree.faults)) == ["FILE:1: missing; write it", "FILE:3: missing; write it"]
