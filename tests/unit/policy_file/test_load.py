import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import FULL_ROLLOUT, Adopt, Keep, Mode, Policy, Retention, Rule
from asynq_ttl.policy_file.faults import PolicyError
from asynq_ttl.policy_file.load import load_policy, parse_policy
from support.policy_text import VALID, faults_of

DAY = 86_400


def test_a_policy_is_read_whole() -> None:
    """Every key of the format arrives in the policy."""
    text = """\
version: 1
mode: shadow
grace: 90s
rollout: 12.5%
adopt: off
scheduler_history: 30d
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
    assert (policy.mode, policy.grace_seconds, policy.rollout, policy.adopt) == (Mode.SHADOW, 90, 1_250, Adopt.OFF)
    assert policy.scheduler_history == 30 * DAY
    assert policy.source == "policy.yaml"
    assert policy.digest == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_what_is_left_out_has_defaults() -> None:
    """A policy enforces all tasks, with a minute of grace, and adopts what ends past the sidecar."""
    policy = parse_policy(VALID, "FILE")
    assert (policy.mode, policy.grace_seconds, policy.rollout, policy.adopt) == (
        Mode.ENFORCE,
        60,
        FULL_ROLLOUT,
        Adopt.NEW,
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
        "8: rule a: completed: `ttl` is missing; write {ttl: keep}, or leave the line out",
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
        "9: rule number 2: archived.ttl: 7 is a bare number; a duration needs a unit, did you mean 7s?",
        "10: rule number 2: match.queue: 7 is not text; a glob is text, quote it",
        (
            "10: rule number 2: match.type: a list of 0 globs; "
            "write 1 to 100 globs, or leave the key out to match everything"
        ),
        "11: rule a: says nothing; give it archived, completed or done: {ttl: ...}",
        "11: the name a is taken by the rule on line 5; traces and metrics tell rules apart by their names",
        "13: rule b: archived.ttl: 1:30 looks like a time of day; a duration has units, such as 1h30m or 90s",
        "14: rule c: can never be reached because of rule b (line 12); move it up or remove it",
        (
            "16: rule c: archived.ttl: 0 keeps nothing; a duration needs a unit and is at least 1s, "
            "did you mean 7d? To remove tasks at once write delete"
        ),
    ]


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


KEYS = st.sampled_from(
    [
        "version",
        "mode",
        "grace",
        "rollout",
        "adopt",
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
