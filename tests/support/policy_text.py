"""Policy files as text: a valid one, and what is wrong with others."""

import pytest

from asynq_ttl.policy.rules import Rule
from asynq_ttl.policy_file.faults import PolicyError
from asynq_ttl.policy_file.load import parse_policy

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
