"""A command of each kind, by one policy: what becomes of it, and what is not understood."""

from dataclasses import replace

import pytest

from asynq_ttl.events import Action, Decision, FailOpen
from asynq_ttl.policy import lua_rules, reach
from asynq_ttl.policy.rules import (
    FULL_ROLLOUT,
    Mode,
    Policy,
    Rule,
    State,
    Verdict,
)
from asynq_ttl.rewriting import ending, reviving
from asynq_ttl.rewriting.call import NotUnderstood, Rewrite
from asynq_ttl.rewriting.registry import Script
from asynq_ttl.rewriting.rewriter import Rewriter
from support.policy_calls import (
    ALL,
    ARCHIVE_ALL_CALL,
    ARCHIVE_ONE_CALL,
    DELETE,
    DEQUEUE_CALL,
    EVERY_CALL,
    FOREVER,
    JANITOR_CALL,
    REGISTRY,
    RUN_ONE_CALL,
    ScriptCall,
    archive,
    decided,
    each_kind,
    policy_of,
    reason_of,
    rewritten,
    types,
)


def forget_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no memory for queues."""
    for module in (ending, lua_rules, reach, reviving):
        monkeypatch.setattr(module, "_MEMORY_LIMIT", 0)


@pytest.mark.parametrize("kind", ["complete", "archive"])
def test_tasks_of_more_queues_than_are_remembered_are_settled_alike(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full memory of queues changes nothing but the time it takes."""
    expected = rewritten(policy_of(ALL), EVERY_CALL[kind])
    forget_queues(monkeypatch)
    rewriter = Rewriter(policy_of(ALL), set())
    assert [rewritten(rewriter, EVERY_CALL[kind]) for _ in range(2)] == [expected] * 2
    assert expected is not None


def test_a_question_heals_no_queue() -> None:
    """Only what is decided while a policy enforces makes a queue one that is healed later."""
    healed: set[str] = set()
    rewriter = Rewriter(policy_of(ALL), healed)
    assert rewriter.concerns("q")
    assert healed == set()
    assert rewritten(rewriter, RUN_ONE_CALL) is not None
    assert healed == {"q"}


# --- live again -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["run_one", "run_all"])
def test_a_task_that_is_run_again_is_persisted(kind: str) -> None:
    """The wrapper needs no argument: it takes the TTL off."""
    found = rewritten(policy_of(ALL), EVERY_CALL[kind])
    assert found == Rewrite(
        enforced=True,
        decision=Decision(
            operation="run",
            script=f"asynq.{kind}",
            queue="q",
            state="pending",
            action=Action.PERSIST,
            enforced=True,
            task_id="id" if kind == "run_one" else "",
        ),
    )


@pytest.mark.parametrize("kind", ["dequeue", "dequeue_timed", "janitor"])
def test_a_poll_is_wrapped_without_a_word(kind: str) -> None:
    """It is too frequent to tell of each."""
    assert rewritten(policy_of(ALL), EVERY_CALL[kind]) == Rewrite(enforced=True)


@pytest.mark.parametrize("kind", ["run_one", "run_all", "dequeue", "dequeue_timed", "delete_all", "janitor"])
def test_a_queue_that_had_ttls_is_healed_after_its_rules_are_gone(kind: str) -> None:
    """What an earlier policy gave a TTL still loses it when it lives again."""
    healed: set[str] = set()
    assert rewritten(Rewriter(policy_of(ALL), healed), EVERY_CALL[kind]) is not None
    for later in (policy_of(), policy_of(ALL, mode=Mode.SHADOW)):
        found = rewritten(Rewriter(later, healed), EVERY_CALL[kind])
        assert found is not None
        assert found.enforced
    assert rewritten(Rewriter(policy_of(), set()), EVERY_CALL[kind]) is None


@pytest.mark.parametrize("kind", ["run_one", "run_all", "dequeue", "dequeue_timed", "delete_all", "janitor"])
def test_more_queues_than_are_remembered_are_healed_too(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full memory of queues does not leave a TTL on a live task of a queue that a rule concerns."""
    forget_queues(monkeypatch)
    healed: set[str] = set()
    rewriter = Rewriter(policy_of(ALL), healed)
    for _ in range(2):
        found = rewritten(rewriter, EVERY_CALL[kind])
        assert found is not None
        assert found.enforced
    assert healed == set()


def test_a_dequeue_is_decided_once_for_its_queue() -> None:
    """The hottest script costs one look-up: other keys of a later call do not matter."""
    rewriter = Rewriter(policy_of(ALL), set())
    assert rewritten(rewriter, DEQUEUE_CALL) is rewritten(rewriter, DEQUEUE_CALL)


# --- not enforced, not concerned --------------------------------------------------------------------------


@each_kind
def test_off_means_nothing(kind: str) -> None:
    """With mode off every command is forwarded, broken or not."""
    rewriter = Rewriter(policy_of(ALL, mode=Mode.OFF), {"q"})
    assert rewriter.off
    assert not rewriter.concerns("q")
    assert rewritten(rewriter, EVERY_CALL[kind]) is None
    assert rewritten(rewriter, (EVERY_CALL[kind][0], [], [])) is None


@each_kind
def test_shadow_decides_the_same_but_enforces_nothing(kind: str) -> None:
    """What would be done is told; nothing is done."""
    enforced = rewritten(policy_of(ALL), EVERY_CALL[kind])
    shadowed = rewritten(policy_of(ALL, mode=Mode.SHADOW), EVERY_CALL[kind])
    assert enforced is not None
    if enforced.enqueue is not None:
        told = enforced.enqueue._replace(decision=enforced.enqueue.decision._replace(enforced=False))
        assert shadowed == enforced._replace(enforced=False, enqueue=told)
    elif enforced.decision is None:
        assert shadowed is None
    else:
        assert shadowed is not None
        decision = enforced.decision._replace(enforced=False)
        assert shadowed._replace(terms=None) == enforced._replace(enforced=False, decision=decision, terms=None)


@each_kind
def test_without_a_rule_for_it_a_command_goes_as_it_came(kind: str) -> None:
    """No rule for the queue, or none that says anything about the state."""
    assert rewritten(policy_of(), EVERY_CALL[kind]) is None
    assert rewritten(policy_of(replace(ALL, queues=types("other"))), EVERY_CALL[kind]) is None
    if kind in ("complete", "archive", "archive_all"):
        silent = replace(ALL, completed=None) if kind == "complete" else replace(ALL, archived=None)
        assert rewritten(policy_of(silent), EVERY_CALL[kind]) is None


@each_kind
def test_keys_that_are_not_asynq_s_are_nobody_s(kind: str) -> None:
    """A script of the shape that works on other keys is forwarded without a word."""
    text, keys, args = EVERY_CALL[kind]
    assert rewritten(policy_of(ALL), (text, [b"other:" + key for key in keys], args)) is None


def test_a_dequeue_into_some_other_list_is_none() -> None:
    """Only a move from pending to active is one."""
    text, keys, args = DEQUEUE_CALL
    assert rewritten(policy_of(ALL), (text, [*keys[:2], b"asynq:{q}:mine", keys[3]], args)) is None


@pytest.mark.parametrize(
    ("mode", "healed", "sweeps"),
    [
        (Mode.ENFORCE, set(), True),
        (Mode.SHADOW, set(), False),
        (Mode.SHADOW, {"q"}, True),
        (Mode.OFF, {"q"}, False),
    ],
)
def test_there_is_something_to_sweep_where_ttls_were_given(mode: Mode, healed: set[str], sweeps: bool) -> None:
    """While enforcing, and after it as long as the mode is not off."""
    assert Rewriter(policy_of(ALL, mode=mode), healed).reach.sweeps is sweeps


def test_no_queue_concerns_nobody() -> None:
    """KEYS that name no queue need no look at the policy."""
    assert not Rewriter(policy_of(ALL), set()).concerns(None)


@pytest.mark.parametrize("kind", ["complete", "archive"])
def test_outside_the_rollout_s_share_a_task_is_shadowed(kind: str) -> None:
    """The share is by task ID; the rest is decided and told, not done."""
    half = policy_of(ALL, rollout=FULL_ROLLOUT // 2)
    seen = set()
    for number in range(20):
        task_id = b"task%d" % number
        text, keys, args = EVERY_CALL[kind]
        call = (text, [key.replace(b"t:id", b"t:" + task_id) for key in keys], [task_id, *args[1:]])
        found = rewritten(half, call)
        assert found is not None
        assert found.enforced is decided(found).enforced is half.enforces(task_id)
        seen.add(found.enforced)
    assert seen == {True, False}


# --- what is not understood -------------------------------------------------------------------------------


@each_kind
def test_fewer_arguments_than_the_script_uses_are_not_understood(kind: str) -> None:
    """A wrapper relies on every KEYS and ARGV of the shape, so all have to be there."""
    text, keys, args = EVERY_CALL[kind]
    script = REGISTRY.learn(text)
    assert reason_of(policy_of(ALL), (text, keys[: script.least_keys - 1], args)) is FailOpen.ARGUMENTS
    if script.least_args:
        assert reason_of(policy_of(ALL), (text, keys, args[: script.least_args - 1])) is FailOpen.ARGUMENTS


@pytest.mark.parametrize("value", [b"", b"soon", b"1.5", b"1e9", b"1_000", b" 1", b"+1", b"0x10", b"inf", b"9" * 16])
@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("complete", 2),
        *(("archive", number) for number in (3, 4, 5)),
        *(("archive_one", number) for number in (2, 3, 4)),
        *(("archive_all", number) for number in (1, 2, 3)),
        ("janitor", 3),
    ],
)
def test_what_python_lua_and_redis_read_differently_is_not_understood(kind: str, number: int, value: bytes) -> None:
    """Only plain integers count as numbers."""
    text, keys, args = EVERY_CALL[kind]
    broken = [*args[: number - 1], value, *args[number:]]
    assert reason_of(policy_of(ALL), (text, keys, broken)) is FailOpen.ARGUMENTS


@pytest.mark.parametrize("kind", ["complete", "archive", "archive_one"])
def test_a_task_key_of_another_task_is_not_understood(kind: str) -> None:
    """Task key, ID and index have to be of one task in one queue."""
    text, keys, args = EVERY_CALL[kind]
    for wrong in (b"asynq:{q}:t:other", b"asynq:{other}:t:id", b"asynq:{q}:t:"):
        moved = [wrong if b":t:" in key else key for key in keys]
        assert reason_of(policy_of(ALL), (text, moved, args)) is FailOpen.ARGUMENTS


@pytest.mark.parametrize("kind", ["archive_all", "run_all", "janitor"])
def test_a_task_prefix_of_another_queue_is_not_understood(kind: str) -> None:
    """Bulk scripts work on one queue."""
    text, keys, args = EVERY_CALL[kind]
    elsewhere = [b"asynq:{other}:t:" if arg == b"asynq:{q}:t:" else arg for arg in args]
    assert reason_of(policy_of(ALL), (text, keys, elsewhere)) is FailOpen.ARGUMENTS


@pytest.mark.parametrize("batch", [b"0", b"-1"])
def test_a_janitor_without_a_limit_is_not_understood(batch: bytes) -> None:
    """To Redis such a limit is none: it would delete more than the wrapper looked at."""
    text, keys, args = JANITOR_CALL
    assert reason_of(policy_of(ALL), (text, keys, [*args[:2], batch])) is FailOpen.ARGUMENTS


class FaultyPolicy(Policy):
    """A policy that cannot be evaluated."""

    def decide(self, queue: str, task_type: str | None, state: State) -> Verdict | None:
        """Fail."""
        raise ZeroDivisionError(f"{queue} {task_type} {state}")


@pytest.mark.parametrize("kind", ["complete", "archive"])
def test_a_policy_that_raises_is_not_understood(kind: str) -> None:
    """Whatever it raises, the task has to move."""
    assert reason_of(FaultyPolicy((ALL,)), EVERY_CALL[kind]) is FailOpen.POLICY


def test_a_script_of_a_kind_that_is_not_wrapped_is_not_understood() -> None:
    """Asked about such a script, the rewriter does not guess."""
    script: Script = REGISTRY.learn(b"return 1")
    with pytest.raises(NotUnderstood) as caught:
        Rewriter(policy_of(ALL), set()).rewrite(script, [b"EVAL", b"return 1", b"0"], 0)
    assert caught.value.reason is FailOpen.POLICY


def test_what_a_sweeper_knows_of_depends_on_the_policy_and_on_what_it_has_left() -> None:
    """Sidecars with the same policy cover the same; a queue that an earlier policy has left makes a difference."""
    one, same, other = (Rewriter(policy_of(rule), set()) for rule in (ALL, ALL, ALL))
    assert one.reach.coverage == same.reach.coverage
    assert Rewriter(Policy((ALL,), digest="another"), set()).reach.coverage != one.reach.coverage
    assert Rewriter(policy_of(ALL), {"q"}).reach.coverage == other.reach.coverage
    elsewhere = policy_of(Rule("r", queues=types("other"), archived=FOREVER))
    assert Rewriter(elsewhere, {"q"}).reach.coverage != Rewriter(elsewhere, set()).reach.coverage


def tail_of(rewriter: Rewriter, call: ScriptCall) -> bytes:
    """Return the argument that a call's wrapper gets."""
    found = rewritten(rewriter, call)
    assert found is not None
    assert found.tail is not None
    return found.tail


def test_with_a_sink_no_archiving_trims_by_age_or_deletes() -> None:
    """The sweeper does both, after it has handed the task over."""
    rewriter = Rewriter(policy_of(Rule("at once", archived=DELETE)), set(), hands_over=True)
    assert tail_of(rewriter, archive()).split()[:2] == [b"%d" % (1000 + reach.HANDOVER_GRACE_SECONDS * 1000), b"-"]
    by_inspector = tail_of(rewriter, ARCHIVE_ALL_CALL).split()
    assert by_inspector[:2] == [b"%d" % (1000 + reach.HANDOVER_GRACE_SECONDS * 1000), b"-"]
    healing = Rewriter(policy_of(), {"q"}, hands_over=True)
    assert tail_of(healing, archive()).split()[1] == b"-"
    assert tail_of(healing, ARCHIVE_ONE_CALL).split()[:2] == [b"0", b"-"]


ENDED = [b"asynq:{q}:t:id", b"asynq:{q}:archived"]


def test_a_call_that_no_text_explains_is_decided_by_its_keys() -> None:
    """Where they are no end of a task, or the mode is off, it goes as it came."""
    rewriter = Rewriter(policy_of(ALL), set())
    found = rewriter.rewrite_by_effect(ENDED)
    assert found is not None
    assert decided(found).operation == "end"
    assert rewriter.rewrite_by_effect(ENDED[:1]) is None
    assert Rewriter(policy_of(ALL, mode=Mode.OFF), {"q"}).rewrite_by_effect(ENDED) is None


def test_a_policy_that_raises_about_an_end_is_not_understood() -> None:
    """Whatever it raises, the task has to move."""

    class Raising(Policy):
        def queue_rules(self, queue: str, state: State) -> tuple[Rule, ...]:
            raise ZeroDivisionError(f"{queue} {state}")

    with pytest.raises(NotUnderstood) as caught:
        Rewriter(Raising((ALL,)), set()).rewrite_by_effect(ENDED)
    assert caught.value.reason is FailOpen.POLICY
