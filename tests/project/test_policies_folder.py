import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from asynq_ttl.policy.rules import DEFAULT_POLICY, TERMINAL, Mode
from asynq_ttl.policy_file.faults import PolicyError
from asynq_ttl.policy_file.load import load_policy, parse_policy
from asynq_ttl.policy_file.yaml_tree import read
from support.paths import ROOT

POLICIES = ROOT / "policies"
EXAMPLES = sorted(POLICIES.glob("*.yaml"))
SCHEMA = json.loads((POLICIES / "schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)

RULE = {"name": "a", "archived": {"ttl": "7d"}}


def document(**parts: object) -> dict[str, object]:
    """Return a valid document with some of its parts replaced."""
    return {"version": 1, "rules": [RULE]} | parts


def with_rule(**parts: object) -> dict[str, object]:
    """Return a valid document whose one rule has some of its parts replaced."""
    return document(rules=[RULE | parts])


def is_policy(data: object) -> bool:
    """Say whether the loader takes a document; JSON is YAML too."""
    try:
        parse_policy(json.dumps(data), "document")
    except PolicyError:
        return False
    return True


VALID: list[object] = [
    document(),
    document(mode="off"),
    document(mode="shadow", grace="1s", rollout="0%"),
    document(rollout="12.34%"),
    document(rollout="100.00%"),
    {"version": 1, "mode": "off"},
    {"version": 1, "mode": "off", "rules": []},
    {"version": 1, "mode": "off", "rules": None},
    with_rule(match={}),
    with_rule(match={"queue": "q*", "type": ["a", "[a-z]?"]}),
    with_rule(match={"queue": ["*"]}, archived={"max": 1}),
    with_rule(archived={"ttl": "forever", "max": 1_000_000_000}),
    with_rule(archived={"ttl": "1w1d1h1m1s"}),
    with_rule(archived={"ttl": "0d1s"}),
    with_rule(completed={"ttl": "delete"}),
    with_rule(name="ünder 9"),
    document(rules=[{"name": "a", "completed": {"ttl": "keep"}}]),
    document(rules=[{"name": "a", "done": {"ttl": "2h"}}]),
    with_rule(done={"ttl": "forever"}),
    document(scheduler_history="30d"),
    document(scheduler_history="keep"),
]

INVALID: list[object] = [
    None,
    [],
    "version: 1",
    {},
    {"version": 1},
    {"rules": [RULE]},
    document(version=2),
    document(version="1"),
    document(version=True),
    document(extra=1),
    document(mode="Off"),
    document(mode=False),
    document(grace=60),
    document(grace="0s"),
    document(grace="keep"),
    document(rollout=50),
    document(rollout="50"),
    document(rollout="101%"),
    document(rollout="1.234%"),
    document(scheduler_history="forever"),
    document(scheduler_history="delete"),
    document(scheduler_history=30),
    document(rules=[]),
    document(rules=None),
    document(rules={}),
    document(rules=["a"]),
    document(rules=[{"name": "a"}]),
    document(rules=[{"archived": {"ttl": "7d"}}]),
    with_rule(extra=1),
    with_rule(name=""),
    with_rule(name=" a"),
    with_rule(name="a "),
    with_rule(name="a\nb"),
    with_rule(name="a" * 101),
    with_rule(name=7),
    with_rule(match=None),
    with_rule(match="q"),
    with_rule(match={"queues": "q"}),
    with_rule(match={"queue": []}),
    with_rule(match={"queue": [[]]}),
    with_rule(match={"queue": ""}),
    with_rule(match={"queue": 7}),
    with_rule(match={"queue": "a\tb"}),
    with_rule(match={"queue": "a" * 257}),
    with_rule(match={"queue": ["a"] * 101}),
    with_rule(match={"type": "a"}, archived={"max": 1}),
    with_rule(archived=None),
    with_rule(archived="keep"),
    with_rule(archived={}),
    with_rule(archived={"max": 0}),
    with_rule(archived={"max": True}),
    with_rule(archived={"max": 1.5}),
    with_rule(archived={"max": "1"}),
    with_rule(archived={"max": 1_000_000_001}),
    with_rule(archived={"max": None}),
    with_rule(completed={}),
    with_rule(completed={"ttl": "1d", "max": 1}),
    *(
        with_rule(archived={"ttl": ttl})
        for ttl in (7, 0, 1.5, None, True, "7", "0s", "-1d", "1.5d", "1h1d", "1y", "7D", "")
    ),
]


@pytest.mark.parametrize("data", VALID, ids=json.dumps)
def test_the_schema_takes_what_the_loader_takes(data: object) -> None:
    """An editor shows no error in a valid file."""
    assert is_policy(data)
    assert VALIDATOR.is_valid(data)


@pytest.mark.parametrize("data", INVALID, ids=json.dumps)
def test_the_schema_refuses_what_the_loader_refuses(data: object) -> None:
    """Whatever a schema can say about a fault, this one says."""
    assert not is_policy(data)
    assert not VALIDATOR.is_valid(data)


@pytest.mark.parametrize(
    "data",
    [
        with_rule(archived={"ttl": "5215w"}),
        with_rule(match={"queue": "[ab"}),
        document(rules=[RULE, RULE]),
        document(rules=[RULE, RULE | {"name": "b"}]),
    ],
    ids=["over 100 years", "broken glob", "same name", "hidden rule"],
)
def test_the_loader_knows_more_than_a_schema_can_say(data: object) -> None:
    """These faults are the known difference; a file without them is the same to both."""
    assert not is_policy(data)
    assert VALIDATOR.is_valid(data)


def test_the_schema_is_a_schema() -> None:
    """It conforms to the draft that it names."""
    assert SCHEMA["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(SCHEMA)


def test_there_are_examples() -> None:
    """The tests below run on something."""
    assert {path.stem for path in EXAMPLES} >= {
        "safe-default",
        "keep-failures-long",
        "throw-noise-away",
        "shadow-first",
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_is_valid(path: Path) -> None:
    """An example can be used as it is, in an editor as well as by the sidecar."""
    assert load_policy(path).rules
    assert VALIDATOR.is_valid(read(path.read_text(encoding="utf-8"), str(path)).data)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_is_introduced(path: Path) -> None:
    """It starts with a comment for its reader, and the README has a line about it."""
    assert path.read_text(encoding="utf-8").startswith("# ")
    assert f"[{path.name}]({path.name})" in (POLICIES / "README.md").read_text(encoding="utf-8")


def test_the_safe_default_is_the_built_in_one() -> None:
    """Writing the default down changes nothing about what it decides."""
    policy = load_policy(POLICIES / "safe-default.yaml")
    assert (policy.mode, policy.grace_seconds, policy.rollout) == (
        DEFAULT_POLICY.mode,
        DEFAULT_POLICY.grace_seconds,
        DEFAULT_POLICY.rollout,
    )
    for state in TERMINAL:
        written, built_in = (p.decide("q", "t", state) for p in (policy, DEFAULT_POLICY))
        assert written is not None
        assert built_in is not None
        assert written.retention == built_in.retention


def test_the_shadow_example_changes_nothing() -> None:
    """It can be put in front of production as it is."""
    assert load_policy(POLICIES / "shadow-first.yaml").mode is Mode.SHADOW


def test_the_policy_in_the_readme_is_valid() -> None:
    """What the README shows can be copied."""
    blocks = re.findall(r"```yaml\n(.*?)```", (POLICIES / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    assert [rule.name for rule in parse_policy(blocks[0], "README.md").rules] == [
        "payments",
        "noise",
        "default",
    ]
