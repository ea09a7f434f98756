from asynq_ttl.events import Action
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import Keep, Mode, Policy, Retention, Rule
from asynq_ttl.rewriting.call import POLL, Call, Rewrite
from asynq_ttl.rewriting.registry import ScriptRegistry
from asynq_ttl.rewriting.reviving import LEAVE_DUE, Reviving
from support.conversation import ACTIVE, GROUPS, LEASE, PAUSED, PENDING, TASK
from support.small_scripts import DEQUEUE, JANITOR, RUN_ONE

ALL = Rule("all", archived=Retention(Keep.TTL, 60))


def reviving(mode: Mode = Mode.ENFORCE, healed: set[str] | None = None) -> Reviving:
    """Return what decides by a policy about every queue."""
    return Reviving(Reach(Policy((ALL,), mode=mode, grace_seconds=60), set() if healed is None else healed))


def call(text: bytes, *keys: bytes, argv: tuple[bytes, ...] = ()) -> Call:
    """Return a call of a script."""
    script = ScriptRegistry().learn(text)
    return Call(script, [b"EVALSHA", script.sha, b"%d" % len(keys), *keys, *argv], len(keys))


def run(task: bytes = TASK) -> Rewrite | None:
    """Decide about a run of a task."""
    return reviving().run_one(call(RUN_ONE, task, PENDING, GROUPS, argv=(b"1",)))


def poll(decides: Reviving, pending: bytes = PENDING, active: bytes = ACTIVE) -> Rewrite | None:
    """Decide about a poll."""
    keys = (pending, PAUSED, active, LEASE)
    return decides.dequeue(call(DEQUEUE, *keys, argv=(b"1700000000", b"asynq:{q}:t:")))


def test_a_run_is_told_with_its_task() -> None:
    """Its TTL comes off."""
    found = run()
    assert found is not None
    assert found.enforced
    assert found.decision is not None
    decision = found.decision
    assert (decision.queue, decision.task_id, decision.action) == ("q", "1", Action.PERSIST)


def test_what_is_no_task_key_is_left_alone() -> None:
    """Nothing is known of it."""
    assert run(b"asynq:{q}:archived") is None


def test_a_poll_is_decided_once_for_its_list() -> None:
    """And is told to nobody; where it does not move tasks to the active list, it is another script's."""
    decides = reviving()
    assert poll(decides) is POLL
    assert poll(decides, active=b"elsewhere") is POLL  # as the list was found before
    assert poll(reviving(), active=b"elsewhere") is None


def test_shadow_takes_no_ttl_off() -> None:
    """But in a queue where this process has enforced a policy, there may be some."""
    assert poll(reviving(Mode.SHADOW)) is None
    assert poll(reviving(Mode.SHADOW, {"q"})) is POLL


def test_with_a_sink_a_janitor_leaves_what_is_due() -> None:
    """Its wrapper is told so; without a sink it gets no argument."""
    janitor = call(JANITOR, b"asynq:{q}:completed", argv=(b"1700000000", b"asynq:{q}:t:", b"100"))
    policy = Policy((ALL,), mode=Mode.ENFORCE)
    assert Reviving(Reach(policy, set())).janitor(janitor) == POLL
    found = Reviving(Reach(policy, set(), hands_over=True)).janitor(janitor)
    assert found == Rewrite(enforced=True, tail=LEAVE_DUE)
