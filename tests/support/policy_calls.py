"""Calls of every kind of script, policies for them, and what a rewriter makes of a call."""

import pytest

from asynq_ttl.events import Decision, FailOpen
from asynq_ttl.policy.glob import Glob, compile_glob
from asynq_ttl.policy.rules import (
    FULL_ROLLOUT,
    Keep,
    Mode,
    Policy,
    Retention,
    Rule,
)
from asynq_ttl.rewriting.call import NotUnderstood, Rewrite
from asynq_ttl.rewriting.registry import ScriptRegistry
from asynq_ttl.rewriting.rewriter import Rewriter
from asynq_ttl.wire.commands import Command
from support.small_scripts import (
    ARCHIVE,
    ARCHIVE_ALL,
    ARCHIVE_ONE,
    COMPLETE,
    DELETE_ALL,
    DEQUEUE,
    DEQUEUE_TIMED,
    DONE,
    JANITOR,
    RUN_ALL,
    RUN_ONE,
)
from support.task_message import encode_task

DAY = 86_400
NOW = 1_700_000_000
OWN_SECONDS = 90 * DAY
GRACE = 60
TRIMS_OFF = ((4, b"-inf"), (5, b"1000000000"))
FOREVER = Retention(Keep.FOREVER)
DELETE = Retention(Keep.DELETE)
OWN = Retention(Keep.OWN)


def for_seconds(seconds: int) -> Retention:
    """Return a retention of a time."""
    return Retention(Keep.TTL, seconds)


def types(*globs: str) -> tuple[Glob, ...]:
    """Return compiled globs."""
    return tuple(compile_glob(glob) for glob in globs)


def policy_of(*rules: Rule, mode: Mode = Mode.ENFORCE, rollout: int = FULL_ROLLOUT) -> Policy:
    """Return a policy with a known grace."""
    return Policy(rules, mode=mode, grace_seconds=GRACE, rollout=rollout)


# A call of a script: its text, KEYS and ARGV.
ScriptCall = tuple[bytes, list[bytes], list[bytes]]


def complete(retention: int = 600, message: bytes | None = None) -> ScriptCall:
    """Return a call that completes the task `id`, due after a retention."""
    q = b"asynq:{q}:"
    message = encode_task("job:x", "id", "q", retention) if message is None else message
    return COMPLETE, [q + b"completed", q + b"t:id"], [b"id", b"%d" % (NOW + retention), message]


def archive(task_type: str = "job:x", task_id: str = "id", cap: int = 10_000) -> ScriptCall:
    """Return a call that archives a task of a type."""
    q = b"asynq:{q}:"
    limits = [b"%d" % NOW, b"%d" % (NOW - OWN_SECONDS), b"%d" % cap]
    keys = [q + b"t:" + task_id.encode(), q + b"active", q + b"archived"]
    return ARCHIVE, keys, [task_id.encode(), encode_task(task_type, task_id, "q"), *limits]


LIMITS = [b"%d" % NOW, b"%d" % (NOW - OWN_SECONDS), b"10000"]
ARCHIVE_ONE_CALL = (
    ARCHIVE_ONE,
    [b"asynq:{q}:t:id", b"asynq:{q}:archived"],
    [b"id", *LIMITS, b"asynq:{q}:"],
)
ARCHIVE_ALL_CALL = (ARCHIVE_ALL, [b"asynq:{q}:retry", b"asynq:{q}:archived"], [*LIMITS, b"asynq:{q}:t:"])
RUN_ONE_CALL = (RUN_ONE, [b"asynq:{q}:t:id", b"asynq:{q}:pending"], [b"id", b"asynq:{q}:"])
RUN_ALL_CALL = (RUN_ALL, [b"asynq:{q}:archived", b"asynq:{q}:pending"], [b"asynq:{q}:t:"])
DEQUEUE_CALL = (
    DEQUEUE,
    [b"asynq:{q}:pending", b"asynq:{q}:paused", b"asynq:{q}:active", b"asynq:{q}:lease"],
    [b"%d" % NOW, b"asynq:{q}:t:"],
)
DELETE_ALL_CALL = (DELETE_ALL, [b"asynq:{q}:archived"], [b"asynq:{q}:t:"])
JANITOR_CALL = (JANITOR, [b"asynq:{q}:completed"], [b"%d" % NOW, b"asynq:{q}:t:", b"100"])
DONE_CALL = (
    DONE,
    [b"asynq:{q}:active", b"asynq:{q}:lease", b"asynq:{q}:t:id", b"asynq:{q}:processed", b"asynq:{q}:unique:u"],
    [b"id"],
)
EVERY_CALL = {
    "done": DONE_CALL,
    "complete": complete(),
    "archive": archive(),
    "archive_one": ARCHIVE_ONE_CALL,
    "archive_all": ARCHIVE_ALL_CALL,
    "run_one": RUN_ONE_CALL,
    "run_all": RUN_ALL_CALL,
    "dequeue": DEQUEUE_CALL,
    "dequeue_timed": (DEQUEUE_TIMED, *DEQUEUE_CALL[1:]),
    "delete_all": DELETE_ALL_CALL,
    "janitor": JANITOR_CALL,
}
each_kind = pytest.mark.parametrize("kind", EVERY_CALL)


REGISTRY = ScriptRegistry()


def set_clock(seconds: float = NOW + 0.5) -> None:
    """Set Redis's clock, as far as the sidecar knows it: usually it agrees with the calls'."""
    REGISTRY.clock.note(seconds, 0.0, 0.0, float)


set_clock()


def rewritten(policy: Policy | Rewriter, call: ScriptCall) -> Rewrite | None:
    """Ask what becomes of a call of a script."""
    text, keys, args = call
    script = REGISTRY.learn(text)
    command: Command = [b"EVALSHA", script.sha, b"%d" % len(keys), *keys, *args]
    rewriter = policy if isinstance(policy, Rewriter) else Rewriter(policy, set())
    return rewriter.rewrite(script, command, len(keys))


def decided(found: Rewrite | None) -> Decision:
    """Return the decision of a rewrite that has one."""
    assert found is not None
    assert found.decision is not None
    return found.decision


ALL = Rule("all", completed=for_seconds(7200), archived=for_seconds(3600), done=for_seconds(1800))


def reason_of(policy: Policy, call: ScriptCall) -> FailOpen:
    """Return why a call is not understood."""
    with pytest.raises(NotUnderstood) as caught:
        rewritten(policy, call)
    assert str(caught.value)
    return caught.value.reason
