import pytest

from asynq_ttl.policy.explain import explain
from asynq_ttl.policy.rules import DEFAULT_POLICY, Policy, State
from asynq_ttl.policy_file.load import parse_policy

POLICY = """
version: 1
rules:
  - name: payments
    match: {queue: pay, type: ["pay:*", "refund:*"]}
    archived: {ttl: forever}
    completed: {ttl: 30d}
  - {name: noise, match: {type: "ping:*"}, archived: {ttl: delete}}
  - {name: own, match: {queue: own}, archived: {ttl: keep}, completed: {ttl: keep}}
  - {name: week, match: {queue: "p*"}, archived: {ttl: 7d, max: 500}}
  - {name: no-end, match: {queue: no-end}, archived: {ttl: forever}}
"""


def told(policy: Policy | str, queue: str, task_type: str | None, state: State) -> str:
    """Return the explanation as one text; a policy can be given as the text of its file."""
    if isinstance(policy, str):
        policy = parse_policy(policy, "policy.yaml")
    lines = explain(policy, queue, task_type, state)
    assert not any("\n" in line for line in lines)
    return "\n".join(lines)


def test_the_rules_are_told_up_to_the_one_that_decides() -> None:
    """Each rule before it has its reason: the queue, the type, or nothing said about the state."""
    text = told(POLICY, "own", "ping:1", State.COMPLETED)
    assert "1. payments: passed over, queue own does not match pay\n" in text
    assert "2. noise: passed over, it says nothing about completed tasks\n" in text
    assert "3. own: decides\n" in text
    assert "4. " not in text
    assert "does not match pay:* or refund:*" in told(POLICY, "pay", "mail", State.ARCHIVED)


def test_a_message_that_cannot_be_read_has_the_rules_for_every_type() -> None:
    """No glob matches its type."""
    text = told(POLICY, "pay", None, State.ARCHIVED)
    assert "task:    a type that cannot be read, queue pay" in text
    assert "1. payments: passed over, a type that cannot be read does not match pay:* or refund:*" in text
    assert "result:  rule week" in text


def test_the_task_and_the_policy_are_named() -> None:
    """The answer says what was asked, of which version of which file."""
    text = told(POLICY, "pay", "pay:1", State.ARCHIVED)
    assert "type pay:1, queue pay, entering archived" in text
    digest = parse_policy(POLICY, "policy.yaml").digest
    assert f"policy.yaml ({digest})" in text
    assert "policy:  built-in default\n" in told(DEFAULT_POLICY, "q", "t", State.ARCHIVED)


@pytest.mark.parametrize(
    ("queue", "task_type", "state", "expected"),
    [
        (
            "pay",
            "pay:1",
            State.COMPLETED,
            [
                "result:  rule payments",
                "  retention: 30d",
                "  key TTL: 30d1m (30d retention + 1m grace)",
                "  entry in completed: removed with the key when the retention is over",
                "  concerns: only a task with a Retention, Asynq itself deletes any other at once",
            ],
        ),
        (
            "pay",
            "pay:1",
            State.ARCHIVED,
            [
                "  retention: for ever",
                "  key TTL: none",
                "  entry in archived: stays",
                ("  cap: the newest 500 archived tasks of this queue are kept; those kept for ever are never trimmed"),
            ],
        ),
        (
            "q",
            "ping:1",
            State.ARCHIVED,
            [
                "  retention: none",
                "  task key and entry in archived: deleted at once",
                "  rollout: 100%, every task",
            ],
        ),
        (
            "own",
            "mail",
            State.COMPLETED,
            ["  retention: the task's own Retention", "  key TTL: that Retention + 1m grace"],
        ),
        (
            "own",
            "mail",
            State.ARCHIVED,
            [
                "  retention: 90d (Asynq's own time)",
                "  key TTL: 90d1m (90d retention + 1m grace)",
                "  cap: Asynq's own, the newest 9999 archived tasks of this queue are kept",
            ],
        ),
        ("no-end", "t", State.ARCHIVED, ["  cap: none, a rule of this queue keeps tasks for ever"]),
    ],
)
def test_the_consequences_are_told(queue: str, task_type: str, state: State, expected: list[str]) -> None:
    """Retention, key TTL, index entry and cap are there, with the grace period as a part of the TTL."""
    lines = told(POLICY, queue, task_type, state).splitlines()
    assert [line for line in expected if line not in lines] == []


@pytest.mark.parametrize(
    ("queue", "task_type", "state"),
    [("own", "mail", State.COMPLETED), ("none", "t", State.COMPLETED), ("none", "t", State.ARCHIVED)],
)
def test_a_task_without_a_rule_is_forwarded_untouched(queue: str, task_type: str, state: State) -> None:
    """The answer ends there: nothing else happens to it."""
    policy = "version: 1\nrules:\n - {name: a, match: {queue: a, type: b}, archived: {ttl: 1h}}"
    assert told(policy, queue, task_type, state).endswith("no rule decides, the task is forwarded untouched")


def test_a_task_without_a_rule_beside_a_short_rule_is_forwarded_untouched() -> None:
    """Asynq's trim stays in force where no rule of the queue outlasts it."""
    policy = "version: 1\nrules:\n - {name: a, match: {type: b}, archived: {ttl: 1h}}"
    assert told(policy, "q", "t", State.ARCHIVED).endswith("no rule decides, the task is forwarded untouched")


@pytest.mark.parametrize("ttl", ["26w", "forever"])
def test_a_task_without_a_rule_beside_a_patient_rule_lives_by_its_key(ttl: str) -> None:
    """Asynq's trim by age would take the other rule's tasks, so the key's TTL stands in for it."""
    policy = f"version: 1\nrules:\n - {{name: a, match: {{type: b}}, archived: {{ttl: {ttl}}}}}"
    text = told(policy, "q", "t", State.ARCHIVED)
    assert "retention: 90d (Asynq's own time)" in text
    assert "key TTL: 90d1m" in text


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("enforce", "carried out"), ("shadow", "nothing in Redis is changed"), ("off", "nothing below happens")],
)
def test_the_mode_is_told_before_the_decision(mode: str, expected: str) -> None:
    """A decision that is not carried out is not mistaken for one that is."""
    policy = f"version: 1\nmode: {mode}\nrules: [{{name: a, archived: {{ttl: 1d}}}}]"
    text = told(policy, "q", "t", State.ARCHIVED)
    assert f"mode:    {mode}: " in text
    assert expected in text


@pytest.mark.parametrize("share", ["50%", "12.5%", "0.25%", "0%"])
def test_a_partial_rollout_is_told(share: str) -> None:
    """The share is shown as it is written in a policy file."""
    policy = f"version: 1\nrollout: {share}\nrules: [{{name: a, archived: {{ttl: 1d}}}}]"
    text = told(policy, "q", "t", State.ARCHIVED)
    assert f"rollout: {share} of task IDs are enforced, the others are only traced\n" in text


@pytest.mark.parametrize(
    ("adopt", "ttl", "expected"),
    [
        (
            "new",
            "1d",
            "adopt: a task that ended past the sidecar since this sidecar began gets the same from the sweeper",
        ),
        ("all", "1d", "adopt: a task that ended past the sidecar gets the same from the sweeper"),
        ("off", "1d", "adopt: no, a task that ended past the sidecar stays as it is"),
        ("all", "forever", "adopt: no, a task that ended past the sidecar stays as it is"),
    ],
)
def test_what_becomes_of_a_task_that_no_command_tells_of(adopt: str, ttl: str, expected: str) -> None:
    """It is the last line."""
    policy = f"version: 1\nadopt: {adopt}\nrules: [{{name: a, archived: {{ttl: {ttl}}}}}]"
    assert told(policy, "q", "t", State.ARCHIVED).endswith(expected)


DONE = """
version: 1
rules:
  - {name: own, match: {type: "ping:*"}, done: {ttl: keep}}
  - {name: thrown, match: {type: "rubbish:*"}, done: {ttl: delete}}
  - {name: precious, match: {type: "pay:*"}, done: {ttl: forever}}
  - {name: mail, match: {queue: mail}, done: {ttl: 2h}}
"""


@pytest.mark.parametrize(
    ("task_type", "expected"),
    [
        ("ping:1", "result:  rule own\n  retention: none\n  task key: deleted at once, as Asynq does"),
        ("rubbish:1", "result:  rule thrown\n  retention: none\n  task key: deleted at once, as Asynq does"),
        (
            "pay:1",
            (
                "  kept as: a completed task with this Retention\n  retention: for ever\n  key TTL: none\n"
                "  entry in completed: stays\n  rollout"
            ),
        ),
        (
            "mail:1",
            (
                "  kept as: a completed task with this Retention\n  retention: 2h\n"
                "  key TTL: 2h1m (2h retention + 1m grace)\n  entry in completed: removed"
            ),
        ),
    ],
)
def test_what_becomes_of_a_task_without_a_retention(task_type: str, expected: str) -> None:
    """It is kept as a completed one, or goes as Asynq has it."""
    text = told(DONE, "mail", task_type, State.DONE)
    assert f"type {task_type}, queue mail, done without a Retention" in text
    assert expected in text


@pytest.mark.parametrize("task_type", ["pay:1", "mail:1"])
def test_of_what_done_keeps_neither_the_cap_of_the_archive_nor_adoption_is_told(task_type: str) -> None:
    """It is not in the archive; and past the sidecar Asynq deletes it, so that nothing is there to be adopted."""
    text = told(f"{DONE}  - {{name: all, archived: {{ttl: 1d, max: 5}}}}\n", "mail", task_type, State.DONE)
    assert "cap:" not in text
    assert text.endswith("  adopt: no, past the sidecar Asynq deletes such a task at once")


def test_without_a_rule_about_it_asynq_deletes_it() -> None:
    """Nothing else is to be said."""
    text = told(DONE, "other", "mail:1", State.DONE)
    assert text.endswith("result:  no rule decides, Asynq deletes the task at once")
    assert "1. all: passed over, it says nothing about done tasks" in told(
        "version: 1\nrules:\n  - {name: all, archived: {ttl: 1d}}\n", "q", "t", State.DONE
    )


@pytest.mark.parametrize("state", list(State))
def test_what_an_enqueue_with_its_id_does_is_told(state: State) -> None:
    """Where a rule says that it replaces the task; else it fails, as ever."""
    rule = f"version: 1\nrules:\n  - {{name: all, {state.value}: {{ttl: 1d, on_conflict: replace}}}}\n"
    assert "  on_conflict: an enqueue with its ID replaces it, instead of failing\n" in told(rule, "q", "t", state)
    assert "on_conflict" not in told(rule.replace("replace", "refuse"), "q", "t", state)


def test_histories_are_told_of_where_the_policy_says_something_about_them() -> None:
    """They are no tasks, so that is besides."""
    line = "besides: the history of a scheduler entry goes 30d after its scheduler has added to it\n"
    assert line in told(POLICY.replace("rules:", "scheduler_history: 30d\nrules:"), "q", "t", State.ARCHIVED)
    assert "besides" not in told(POLICY, "q", "t", State.ARCHIVED)


def test_a_task_without_a_retention_can_be_kept_as_completed() -> None:
    """Then it is not said that Asynq deletes it: `done` decides."""
    text = "version: 1\nrules: [{name: a, match: {type: a}, done: {ttl: 2h}}, {name: b, completed: {ttl: 1h}}]"
    policy = parse_policy(text, "p")
    assert "  concerns: only a task with a Retention, about any other `done` decides" in explain(
        policy, "q", "a", State.COMPLETED
    )
    for task_type in ("b", None):
        assert "Asynq itself deletes any other at once" in "".join(explain(policy, "q", task_type, State.COMPLETED))
