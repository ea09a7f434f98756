"""What becomes of a call that no text explains."""

import json
from typing import Any

import pytest

from asynq_ttl.events import Action, Decision
from asynq_ttl.policy import lua_rules
from asynq_ttl.policy.reach import HANDOVER_GRACE_SECONDS, Reach
from asynq_ttl.policy.rules import FOREVER_SCORE, FULL_ROLLOUT, Keep, Mode, Policy, Retention, Rule
from asynq_ttl.rewriting.by_effect import ByEffect
from asynq_ttl.rewriting.call import Rewrite
from support.policy_calls import ALL, DELETE, FOREVER, GRACE, OWN, for_seconds, policy_of, types

TASK, OTHER_TASK = b"asynq:{q}:t:id", b"asynq:{q}:t:more"
ARCHIVED, COMPLETED = b"asynq:{q}:archived", b"asynq:{q}:completed"
KEYS = [TASK, b"asynq:{q}:active", ARCHIVED]


def ended(
    policy: Policy, keys: list[bytes] | None = None, healed: set[str] | None = None, *, sink: bool = False
) -> Rewrite | None:
    """Ask what becomes of a call with some KEYS."""
    reach = Reach(policy, set() if healed is None else healed, hands_over=sink)
    return ByEffect(reach).end(KEYS if keys is None else keys)


def told(found: Rewrite | None) -> dict[str, Any]:
    """Return what the wrapper is told."""
    assert found is not None
    assert found.tail is not None
    content: dict[str, Any] = json.loads(found.tail.decode("latin-1"))
    return content


def decided(found: Rewrite | None) -> Decision:
    """Return the decision of a rewrite."""
    assert found is not None
    assert found.decision is not None
    return found.decision


def test_the_wrapper_is_told_the_rules_of_both_states() -> None:
    """Which state a task enters is seen in Redis only; nothing else of the command changes."""
    found = ended(policy_of(ALL))
    assert told(found) == {
        "queue": "asynq:{q}:",
        "share": FULL_ROLLOUT,
        "grace": GRACE,
        "for_ever": FOREVER_SCORE,
        "completed": {"rules": [{"types": [], "seconds": 7200}]},
        "archived": {"rules": [{"types": [], "seconds": 3600}]},
    }
    assert found is not None
    assert (found.enforced, found.argv) == (True, ())


@pytest.mark.parametrize(
    ("kept", "action"),
    [(for_seconds(1), Action.TTL), (OWN, Action.KEEP), (FOREVER, Action.NONE), (DELETE, Action.DELETE)],
)
def test_a_sole_rule_is_named(kept: Retention, action: Action) -> None:
    """Where one rule decides about every type in the one state whose index is there, the decision says so."""
    decision = decided(ended(policy_of(Rule("sole", archived=kept))))
    assert decision == Decision(
        operation="end",
        script="asynq.by_effect",
        queue="q",
        state="archived",
        action=action,
        enforced=True,
        task_id="id",
        rule="sole",
    )


def test_what_redis_picks_is_not_named() -> None:
    """Several rules, a rule by type, both indexes, several tasks: what was asked is told, and no more."""
    by_type = decided(ended(policy_of(Rule("typed", types=types("x"), archived=DELETE))))
    assert (by_type.rule, by_type.action, by_type.state) == ("", Action.TTL, "archived")
    several = decided(ended(policy_of(Rule("typed", types=types("x"), archived=DELETE), ALL)))
    assert (several.rule, several.action) == ("", Action.TTL)
    either = decided(ended(policy_of(ALL), [*KEYS, COMPLETED]))
    assert (either.rule, either.state) == ("", "ended")
    assert decided(ended(policy_of(ALL), [*KEYS, OTHER_TASK])).task_id == ""
    assert decided(ended(policy_of(ALL), [TASK, COMPLETED])).state == "completed"


@pytest.mark.parametrize("keys", [[TASK], [ARCHIVED], [TASK, b"asynq:{other}:archived"], [b"x", b"y"]])
def test_other_keys_are_no_concern(keys: list[bytes]) -> None:
    """Only a task key and a terminal index of one queue say that a task may end."""
    assert ended(policy_of(ALL), keys) is None


def test_a_queue_that_no_rule_concerns_is_left_alone() -> None:
    """Nothing is wrapped, told or remembered."""
    healed: set[str] = set()
    assert ended(policy_of(Rule("r", queues=types("other"), archived=OWN)), healed=healed) is None
    assert ended(policy_of(ALL, mode=Mode.OFF), healed=healed) is None
    assert healed == set()


def test_a_state_without_a_rule_still_heals() -> None:
    """A task that lives again loses its TTL; of the state whose index is there, nothing is told."""
    healed: set[str] = set()
    found = ended(policy_of(Rule("r", completed=OWN)), healed=healed)
    assert told(found)["completed"] == {"rules": [{"types": [], "seconds": "own"}]}
    assert "archived" not in told(found)
    assert found is not None
    assert (found.enforced, found.decision) == (True, None)
    assert healed == {"q"}


def test_shadow_only_tells() -> None:
    """What would be decided is told, and nothing is wrapped."""
    found = ended(policy_of(ALL, mode=Mode.SHADOW))
    assert found is not None
    assert (found.enforced, found.tail) == (False, None)
    assert not decided(found).enforced
    assert ended(policy_of(Rule("r", completed=OWN), mode=Mode.SHADOW)) is None


def test_a_queue_that_had_ttls_is_healed_after_its_rules_are_gone() -> None:
    """In shadow mode, or without a rule, the wrapper gives no TTL to anybody, and takes them off what lives."""
    shadow = ended(policy_of(ALL, mode=Mode.SHADOW), healed={"q"})
    assert told(shadow)["share"] == 0
    assert shadow is not None
    assert (shadow.enforced, decided(shadow).enforced) == (True, False)
    gone = ended(policy_of(), healed={"q"})
    assert {"completed", "archived"} & told(gone).keys() == set()
    assert gone is not None
    assert gone.decision is None


def test_the_share_of_a_rollout_goes_along() -> None:
    """The wrapper finds out by the ID; the decision says whether that one task is enforced."""
    half = policy_of(ALL, rollout=FULL_ROLLOUT // 2)
    seen = set()
    for number in range(20):
        task_id = b"task%d" % number
        found = ended(half, [b"asynq:{q}:t:" + task_id, ARCHIVED])
        assert told(found)["share"] == FULL_ROLLOUT // 2
        assert decided(found).enforced is half.enforces(task_id)
        seen.add(half.enforces(task_id))
    assert seen == {True, False}
    assert decided(ended(half, [*KEYS, OTHER_TASK])).enforced
    nothing = ended(policy_of(ALL, rollout=0))
    assert (told(nothing)["share"], decided(nothing).enforced) == (0, False)


def test_with_a_sink_nothing_is_deleted_at_once() -> None:
    """The sweeper hands it over first; the grace leaves time for that."""
    content = told(ended(policy_of(Rule("r", archived=DELETE)), sink=True))
    assert content["archived"] == {"rules": [{"types": [], "seconds": 1}]}
    assert content["grace"] == HANDOVER_GRACE_SECONDS


def test_the_rules_of_a_queue_are_put_together_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was worked out for a queue is used again; the memory for it has a limit."""
    decide = ByEffect(Reach(policy_of(ALL), set()))
    tails = [found.tail for _ in range(2) if (found := decide.end(KEYS)) is not None]
    assert tails[0] is tails[1]
    monkeypatch.setattr(lua_rules, "_MEMORY_LIMIT", 1)
    elsewhere = decide.end([key.replace(b"{q}", b"{r}") for key in KEYS])
    assert told(elsewhere)["queue"] == "asynq:{r}:"
    again = decide.end(KEYS)
    assert again is not None
    assert again.tail == tails[0]
    assert again.tail is not tails[0]


def test_the_name_of_a_queue_need_not_be_text() -> None:
    """Its bytes go to Lua as they came."""
    keys = [key.replace(b"{q}", b'{\xff"\xc3\xa9}') for key in KEYS]
    assert told(ended(policy_of(Rule("r", archived=Retention(Keep.OWN))), keys))["queue"] == 'asynq:{\xff"\xc3\xa9}:'
