"""The text of a policy to start with. That its numbers are right: `tests/integration/existing_keys/test_init.py`."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys import starting_policy as module
from asynq_ttl.existing_keys.audit.counts import Tally
from asynq_ttl.existing_keys.audit.forecast import forecast
from asynq_ttl.existing_keys.audit.problems import finding_of
from asynq_ttl.existing_keys.audit.report import Report
from asynq_ttl.existing_keys.audit.tasks import TaskCounter
from asynq_ttl.existing_keys.starting_policy import Inventory, exactly, left_out, quoted, starting_policy
from asynq_ttl.existing_keys.type_census import TypeCensus
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import DEFAULT_POLICY, Mode, Policy
from asynq_ttl.policy_file.load import parse_policy
from asynq_ttl.times import format_duration
from support.scripted_database import NOW, task_of

DAY = 86_400
NAMES = st.text(max_size=40) | st.text(
    alphabet="*?[]!^-\\\"'#:{}, \n\tae\x00\x7f\u2028\ufeff\ud800\U0001f600", max_size=20
)


def found(*tasks: Task, more_types: int = 0) -> Inventory:
    """Return what an audit finds that meets some tasks."""
    tally, census = Tally(), TypeCensus()
    counter = TaskCounter(tally, DEFAULT_POLICY, NOW)
    for task in tasks:
        counter.count(task)
        census.count(task, NOW)
    census.more_types = more_types
    report = Report("redis://h:1/0", "Redis 7", "default", NOW, 1.0, tally, [], forecast(tally, DEFAULT_POLICY))
    return Inventory(report, census)


def named(queue: str, kind: str = "x") -> Task:
    """Return a task whose queue and type have any names; bytes that are not UTF-8 are surrogates."""
    task = task_of("archived", score=NOW - 9 * DAY)
    assert task.record is not None
    return replace(task, queue=queue, record=task.record._replace(type=kind))


def policy(text: str) -> Policy:
    """Return the policy that a text is, which changes nothing."""
    read = parse_policy(text, "test")
    assert read.mode is Mode.SHADOW
    assert all(rule.archived == rule.completed == DEFAULT_POLICY.rules[0].archived for rule in read.rules)
    return read


@given(NAMES)
def test_a_quoted_text_is_what_it_was(name: str) -> None:
    """As a rule's glob, whatever YAML makes of its characters."""
    glob = exactly(name)
    if glob is not None:
        text = f"version: 1\nrules: [{{name: a, match: {{queue: {quoted(glob)}}}, archived: {{ttl: keep}}}}]"
        assert parse_policy(text, "test").rules[0].queues[0].text == glob


@given(NAMES, NAMES)
def test_a_glob_matches_its_name_alone(name: str, other: str) -> None:
    """And no other one."""
    glob = exactly(name)
    assert glob is None or compile_glob(glob).matches(other) == (name == other)


@given(st.lists(st.tuples(NAMES, NAMES), max_size=5))
def test_whatever_the_names_the_text_is_valid(names: list[tuple[str, str]]) -> None:
    """Of queues and types."""
    tasks = [named(queue, kind) for queue, kind in names]
    text = starting_policy(found(*tasks))
    rules = policy(text).rules
    with_suggestions = parse_policy(text.replace("\n  # - ", "\n  - "), "test").rules
    assert len(with_suggestions) == len(rules) + text.count("\n  # - ")


def test_names_of_rules_are_those_of_queues_where_they_can_be() -> None:
    """No two are alike."""
    queues = ["mail", "default", "queue 1", "x" * 200, " a", "a}:t:b", "\udcff", "mail, archived 1"]
    read = policy(starting_policy(found(*(named(queue) for queue in queues))))
    names = ["queue 1", "queue 3", "mail", "queue 5", "queue 6", "queue 7", "default"]
    assert [rule.name for rule in read.rules] == names


def test_what_there_is_and_what_could_be_saved_are_told() -> None:
    """The largest types; with held tasks and orphans."""
    tasks = [task_of("archived", name=f"{n}", task_type=f"t{n}", score=NOW - 9 * DAY) for n in range(7)]
    tasks += [task_of("archived", name="h", score=NOW - DAY, held=True), task_of("completed", completed_at=NOW)]
    text = starting_policy(found(*tasks, task_of("pending"), task_of("odd\nstate"), more_types=3))
    policy(text)
    assert '# Queue "q":\n' in text
    assert "archived: 8 tasks, " in text
    assert f", the oldest {format_duration(9 * DAY)}, 1 held" in text
    assert "completed: 1 tasks, " in text
    assert "1 orphans" in text
    assert "archived: {ttl: 7d}    # would free 7 tasks, " in text
    assert '#   "odd\\x0astate": 1 tasks' in text
    assert "archived: 3 more types" in text
    assert "3 ended tasks are of more types" in text


def test_many_queues_share_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text never becomes larger than a policy may be."""
    tasks = [task_of("archived", queue=f"q{number}", score=NOW) for number in range(130)]
    read = policy(starting_policy(found(*tasks)))
    assert len(read.rules) == 101
    monkeypatch.setattr(module, "_MOST_BYTES", 3_000)
    text = starting_policy(found(*tasks))
    assert len(policy(text).rules) == 5
    assert "126 smaller queues have no rule of their own" in text


def test_what_was_left_out_is_a_comment() -> None:
    """On one line, whatever names it has; what is only wrong is not told of."""
    codes = {"unread": ["node a:1: gone"], "moving": ["q\nmode: off", "r"], "orphan": ["x"]}
    findings = [finding_of(code, len(names), names) for code, names in codes.items()]
    inventory = found(task_of("archived", score=NOW))
    inventory = replace(inventory, report=replace(inventory.report, findings=findings))
    first, second = left_out(inventory.report)
    assert first == "not in this: nodes of the cluster that cannot be read: node a:1: gone"
    assert second.endswith("another node of the cluster: q?mode: off; r")
    text = starting_policy(inventory)
    assert f"# {first}\n# {second}\n" in text
    assert policy(text).rules
