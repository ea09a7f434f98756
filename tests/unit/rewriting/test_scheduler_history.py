"""What becomes of a scheduler's addition to the history of one of its entries."""

import pytest

from asynq_ttl.events import Action, Decision
from asynq_ttl.policy.rules import FULL_ROLLOUT, Mode, Policy
from support.policy_calls import ALL, RECORD_CALL, decided, rewritten

MONTH = 30 * 86_400


def keeping(seconds: int | None = MONTH, mode: Mode = Mode.ENFORCE, rollout: int = FULL_ROLLOUT) -> Policy:
    """Return a policy that keeps histories for so many seconds."""
    return Policy((ALL,), mode=mode, scheduler_history=seconds, rollout=rollout)


def test_the_wrapper_gets_the_time() -> None:
    """In milliseconds, with no grace: nobody sweeps histories. Nothing else of the command changes."""
    found = rewritten(keeping(), RECORD_CALL)
    assert found is not None
    assert (found.enforced, found.tail, found.argv) == (True, b"%d" % (MONTH * 1000), ())
    assert decided(found) == Decision(
        operation="record",
        script="asynq.record",
        queue="",
        state="scheduler_history",
        action=Action.TTL,
        enforced=True,
        rule="scheduler_history",
        ttl_seconds=MONTH,
    )


@pytest.mark.parametrize("key", [b"asynq:{q}:archived", b"log", b"myapp:asynq:scheduler_history:e1"])
def test_another_log_is_no_history(key: bytes) -> None:
    """Whatever program keeps it by the same script."""
    assert rewritten(keeping(), (RECORD_CALL[0], [key], RECORD_CALL[2])) is None


def test_asynqs_own_time_is_none() -> None:
    """Without a word about histories, and where nothing is done at all, the command goes as it came."""
    assert rewritten(keeping(None), RECORD_CALL) is None
    assert rewritten(keeping(mode=Mode.OFF), RECORD_CALL) is None


@pytest.mark.parametrize("policy", [keeping(mode=Mode.SHADOW), keeping(rollout=0)])
def test_what_is_not_enforced_is_told(policy: Policy) -> None:
    """In shadow mode, and outside the share of a rollout, which goes by the ID of the entry."""
    found = rewritten(policy, RECORD_CALL)
    assert (decided(found).enforced, decided(found).ttl_seconds) == (False, MONTH)
    assert found is not None
    assert not found.enforced
