"""What a client's adding of a task becomes where a rule replaces ended ones."""

import json
from typing import Any

import pytest

from asynq_ttl.events import FIRST_MARK, Action, Decision, Enqueue
from asynq_ttl.policy.rules import Keep, Mode, Policy, Retention, Rule, State
from asynq_ttl.rewriting import replacing
from asynq_ttl.rewriting.rewriter import Rewriter
from support.policy_calls import (
    ENQUEUE_CALL,
    ENQUEUE_UNIQUE_CALL,
    ScriptCall,
    for_seconds,
    policy_of,
    rewritten,
    types,
)
from support.task_message import encode_task

YES = Retention(Keep.TTL, 60, replaceable=True)
MAIL = Rule("mail", archived=YES)


def waiting(policy: Policy | Rewriter, call: ScriptCall = ENQUEUE_CALL) -> Enqueue:
    """Return what may be told of a call."""
    found = rewritten(policy, call)
    assert found is not None
    assert found.enqueue is not None
    assert (found.tail, found.argv, found.decision) == (found.enqueue.argument, (), None)
    assert found.enforced == found.enqueue.decision.enforced
    return found.enqueue


def with_task(task_id: bytes, message: bytes = b"", queue: bytes = b"q") -> ScriptCall:
    """Return the call about another task."""
    text, _, args = ENQUEUE_CALL
    prefix = b"asynq:{" + queue + b"}:"
    return text, [prefix + b"t:" + task_id, prefix + b"pending"], [message or args[0], task_id]


def test_the_wrapper_gets_the_rules_of_the_queue() -> None:
    """Each with its mark, by which it is told; of the command nothing else changes."""
    policy = policy_of(
        Rule("pay", types=types("pay:*"), archived=for_seconds(60), completed=YES),
        Rule("rest", archived=YES, done=YES),
        Rule("other", queues=types("other"), completed=YES),
    )
    enqueue = waiting(policy)
    assert json.loads(enqueue.argument) == {
        "queue": "asynq:{q}:",
        "id_at": 13,
        "completed": {"rules": [{"types": ["^pay%:.*$"], "seconds": 2}]},
        "archived": {"rules": [{"types": ["^pay%:.*$"], "seconds": 0}, {"types": [], "seconds": 4}]},
        "done": {"rules": [{"types": [], "seconds": 5}]},
    }
    told = {mark: (enqueue.replaced(mark).state, enqueue.replaced(mark).rule) for mark in (2, 4, 5)}
    assert told == {2: ("completed", "pay"), 4: ("archived", "rest"), 5: ("completed", "rest")}


def test_what_is_told() -> None:
    """The new task's type and producer, the state that the old one was in, and the rule."""
    parent = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    call = with_task(b"id", encode_task("job:y", "id", "q", headers={"traceparent": parent}))
    enqueue = waiting(policy_of(MAIL), call)
    assert enqueue.replaced(FIRST_MARK) == Decision(
        operation="replace",
        script="asynq.enqueue",
        queue="q",
        state="archived",
        action=Action.REPLACED,
        enforced=True,
        task_id="id",
        task_type="job:y",
        rule="mail",
        traceparent=parent,
    )
    assert (enqueue.task_key, enqueue.lock_key) == (b"asynq:{q}:t:id", b"")
    assert waiting(policy_of(MAIL), ENQUEUE_UNIQUE_CALL).lock_key == b"asynq:{q}:unique:u"


def test_a_message_that_cannot_be_read_is_no_hindrance() -> None:
    """Whether a task is replaced is up to the old one."""
    assert waiting(policy_of(MAIL), with_task(b"id", b"\xff")).decision.task_type == ""


@pytest.mark.parametrize(
    "call", [with_task(b"id", queue=b"other"), with_task(b"a}:t:b"), (ENQUEUE_CALL[0], [b"x", b"y"], [b"m", b"id"])]
)
def test_elsewhere_the_command_goes_as_it_came(call: ScriptCall) -> None:
    """In a queue in which nothing is replaced, of a task that may be another queue's, and of no task at all."""
    assert rewritten(policy_of(Rule("mail", queues=types("q"), archived=YES)), call) is None


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize(
    ("mode", "rollout", "hands_over", "enforced"),
    [
        (Mode.ENFORCE, 10_000, False, True),
        (Mode.ENFORCE, 0, False, False),
        (Mode.ENFORCE, 10_000, True, False),
        (Mode.SHADOW, 10_000, False, False),
    ],
)
def test_what_is_not_enforced_is_only_told(
    state: State,
    mode: Mode,
    rollout: int,
    hands_over: bool,
    enforced: bool,
) -> None:
    """In shadow mode, outside the rollout's share, and where a sink is to have each task before it goes."""
    said: dict[str, Any] = {state.value: YES}
    rule = Rule("mail", **said)
    rewriter = Rewriter(policy_of(rule, mode=mode, rollout=rollout), set(), hands_over=hands_over)
    assert waiting(rewriter).decision.enforced is enforced


def test_a_queue_is_healed_by_every_later_policy() -> None:
    """A rule that says what is replaced also says for how long it is kept."""
    healed: set[str] = set()
    rewritten(Rewriter(policy_of(MAIL), healed), ENQUEUE_CALL)
    assert healed == {"q"}


def test_what_is_remembered_of_queues_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client can name as many as it likes."""
    monkeypatch.setattr(replacing, "_MEMORY_LIMIT", 2)
    rewriter = Rewriter(policy_of(MAIL), set())
    first = waiting(rewriter)
    assert waiting(rewriter).choices is first.choices
    for queue in (b"a", b"b", b"c", b"a"):
        assert waiting(rewriter, with_task(b"id", queue=queue)).choices == first.choices
