import pytest

from asynq_ttl.policy import reach as module
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import Adopt, Keep, Mode, Policy, Retention, Rule

MAIL = Rule("mail", queues=(compile_glob("mail"),), archived=Retention(Keep.TTL, 60))


def reach(mode: Mode = Mode.ENFORCE, healed: set[str] | None = None, *, rules: tuple[Rule, ...] = (MAIL,)) -> Reach:
    """Return the reach of a policy about the queue `mail`."""
    return Reach(Policy(rules, mode=mode, grace_seconds=60), set() if healed is None else healed)


def test_a_question_is_remembered_nowhere_but_here() -> None:
    """Asking heals no queue; only what is decided while the policy enforces does."""
    healed: set[str] = set()
    asked = reach(healed=healed)
    assert asked.concerns("mail")
    assert asked.heals("mail")
    assert not asked.concerns("other")
    assert not asked.concerns(None)
    assert healed == set()
    asked.note_enforced("mail")
    asked.note_enforced("other")
    assert healed == {"mail"} == asked.enforced


@pytest.mark.parametrize("mode", [Mode.SHADOW, Mode.OFF])
def test_what_is_not_enforced_heals_nothing_later(mode: Mode) -> None:
    """Such a policy gives no TTL."""
    healed: set[str] = set()
    reach(mode, healed).note_enforced("mail")
    assert healed == set()


def test_an_earlier_policy_lingers() -> None:
    """In its queues TTLs still come off, whatever the policy is now; with `off` nothing is done."""
    gone = reach(healed={"mail"}, rules=())
    assert (gone.concerns("mail"), gone.heals("mail"), gone.lingers("mail"), gone.sweeps) == (True, True, True, True)
    shadow = reach(Mode.SHADOW, {"mail"})
    assert (shadow.heals("mail"), shadow.lingers("mail"), shadow.sweeps) == (True, True, True)
    assert not reach(healed={"mail"}).lingers("mail")
    off = reach(Mode.OFF, {"mail"})
    assert (off.concerns("mail"), off.heals("mail"), off.sweeps) == (False, False, False)
    assert not reach(Mode.SHADOW).sweeps


def test_coverage_tells_apart_what_is_covered() -> None:
    """Sidecars may take turns if they know of the same queues and rules."""
    assert reach().coverage == reach().coverage
    assert reach().coverage != reach(Mode.SHADOW).coverage
    assert reach().coverage != reach(healed={"other"}).coverage
    assert reach().coverage == reach(healed={"mail"}).coverage
    assert " " not in reach().coverage


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client can name as many queues as it likes."""
    monkeypatch.setattr(module, "_MEMORY_LIMIT", 1)
    healed: set[str] = set()
    asked = reach(healed=healed, rules=(Rule("all", archived=Retention(Keep.TTL, 60)),))
    for queue in ("a", "b", "b"):
        assert asked.concerns(queue)
        asked.note_enforced(queue)
    assert healed == {"a"}


@pytest.mark.parametrize(("grace", "expected"), [(0, 3_600), (7_200, 7_200)])
def test_with_a_sink_keys_outlast_their_retention_by_an_hour(grace: int, expected: int) -> None:
    """So no key expires while a sink is asked, or is away for a moment."""
    policy = Policy((MAIL,), grace_seconds=grace)
    assert Reach(policy, set(), hands_over=True).policy.grace_seconds == expected
    assert Reach(policy, set()).policy is policy


@pytest.mark.parametrize(
    ("mode", "adopt", "adopts", "only_tells"),
    [
        (Mode.ENFORCE, Adopt.NEW, True, False),
        (Mode.ENFORCE, Adopt.ALL, True, False),
        (Mode.ENFORCE, Adopt.OFF, False, False),
        (Mode.SHADOW, Adopt.NEW, True, True),
        (Mode.SHADOW, Adopt.OFF, False, False),
        (Mode.OFF, Adopt.ALL, False, False),
    ],
)
def test_what_is_adopted(mode: Mode, adopt: Adopt, adopts: bool, only_tells: bool) -> None:
    """Tasks of the queues that the policy in force is about; where it enforces nothing, they are told of."""
    asked = Reach(Policy((MAIL,), mode=mode, adopt=adopt), {"healed"})
    assert (asked.adopts("mail"), asked.only_tells) == (adopts, only_tells)
    assert not asked.adopts("healed")
