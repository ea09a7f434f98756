from typing import Any

import pytest

import asynq_ttl.policy.rules
from asynq_ttl.policy.archive_limits import ArchiveLimits, HandoverCap
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import (
    DEFAULT_POLICY,
    FULL_ROLLOUT,
    OWN_ARCHIVE_CAP,
    OWN_ARCHIVE_SECONDS,
    TERMINAL,
    Adopt,
    Keep,
    Mode,
    Policy,
    Retention,
    Rule,
    State,
    Verdict,
)

DAY = 86_400
KEEP = Retention(Keep.OWN)
FOREVER = Retention(Keep.FOREVER)
DELETE = Retention(Keep.DELETE)


def ttl(days: int) -> Retention:
    """Return a retention of some days."""
    return Retention(Keep.TTL, days * DAY)


def rule(
    name: str,
    *,
    queues: str = "",
    types: str = "",
    completed: Retention | None = None,
    archived: Retention | None = None,
    archived_max: int | None = None,
    done: Retention | None = None,
) -> Rule:
    """Return a rule whose globs are given with blanks between them."""
    queue_globs, type_globs = (tuple(compile_glob(text) for text in globs.split()) for globs in (queues, types))
    return Rule(name, queue_globs, type_globs, completed, archived, archived_max, done)


@pytest.mark.parametrize(
    ("retention", "seconds"),
    [(ttl(7), 7 * DAY), (KEEP, 500), (FOREVER, None), (DELETE, 0)],
)
def test_a_retention_becomes_seconds(retention: Retention, seconds: int | None) -> None:
    """A time is itself, keep is Asynq's time, for ever has no end, delete is no time."""
    assert retention.resolve(500) == seconds


def test_asynqs_own_time_is_never_none_at_all() -> None:
    """A task without a Retention of its own is kept for a second rather than given an expired key."""
    assert KEEP.resolve(0) == 1


def test_the_first_matching_rule_that_speaks_about_the_state_decides() -> None:
    """A rule that says nothing about a state leaves it to the next one."""
    policy = Policy(
        (
            rule("noise", types="ping:*", archived=DELETE),
            rule("payments", queues="pay bill", types="pay:* ping:*", completed=ttl(30)),
            rule("rest", completed=KEEP, archived=ttl(7)),
        )
    )
    assert policy.decide("pay", "ping:1", State.ARCHIVED) == Verdict("noise", DELETE)
    assert policy.decide("bill", "ping:1", State.COMPLETED) == Verdict("payments", ttl(30))
    assert policy.decide("other", "ping:1", State.COMPLETED) == Verdict("rest", KEEP)
    assert policy.decide("pay", "mail", State.ARCHIVED) == Verdict("rest", ttl(7))


def test_a_type_that_cannot_be_read_has_the_rule_for_every_type() -> None:
    """No glob matches it, not even the one that matches any type."""
    any_type = Rule("any", types=(compile_glob("*"),), archived=Retention(Keep.DELETE))
    rest = Rule("rest", archived=Retention(Keep.FOREVER))
    assert Policy((any_type, rest)).decide("q", None, State.ARCHIVED) == Verdict("rest", Retention(Keep.FOREVER))
    assert Policy((any_type,)).decide("q", None, State.ARCHIVED) is None
    assert not any_type.matches_type(None)


def test_without_a_matching_rule_there_is_no_verdict() -> None:
    """Neither a rule of another queue nor one of another type decides."""
    policy = Policy((rule("a", queues="a", archived=KEEP), rule("b", queues="b", types="x", archived=KEEP)))
    assert policy.decide("c", "x", State.ARCHIVED) is None
    assert policy.decide("b", "y", State.ARCHIVED) is None
    assert policy.decide("a", "x", State.COMPLETED) is None


def test_a_verdict_is_remembered() -> None:
    """The same question gives the same object, also where the answer is that no rule decides."""
    policy = Policy((rule("a", queues="a", archived=KEEP),))
    assert policy.decide("a", "t", State.ARCHIVED) is policy.decide("a", "t", State.ARCHIVED)
    assert policy.decide("b", "t", State.ARCHIVED) is policy.decide("b", "t", State.ARCHIVED) is None


def test_the_memory_of_verdicts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that invents queues and types makes the policy forget, not grow."""
    monkeypatch.setattr(asynq_ttl.policy.rules, "_MEMORY_LIMIT", 5)
    policy = Policy((rule("a", archived=KEEP),))
    for number in range(50):
        assert policy.decide(f"q{number}", f"t{number}", State.ARCHIVED) == Verdict("a", KEEP)
        assert policy.archive_limits(f"q{number}") == policy.archive_limits("q")
    assert len(policy._verdicts) <= 5
    assert len(policy._limits) <= 5
    assert len(policy._queue_rules) <= 5


def test_the_rules_of_a_queue_end_with_the_first_for_every_type() -> None:
    """What comes after it can decide about no task of this queue."""
    one, two, three = rule("1", types="x", archived=KEEP), rule("2", archived=KEEP), rule("3", archived=KEEP)
    assert Policy((one, two, three)).queue_rules("q", State.ARCHIVED) == (one, two)
    assert Policy((one, two, three)).queue_rules("q", State.COMPLETED) == ()


def test_a_queue_is_concerned_if_any_rule_can_decide_about_it() -> None:
    """One state is enough."""
    policy = Policy((rule("a", queues="a*", completed=KEEP),))
    assert policy.concerns("ab")
    assert not policy.concerns("b")


@pytest.mark.parametrize(
    ("rules", "limits"),
    [
        ([rule("a", archived=ttl(7), archived_max=5)], ArchiveLimits(7 * DAY, False, 5, False, False)),
        ([rule("a", archived=KEEP)], ArchiveLimits(0, True, None, False, False)),
        ([rule("a", archived=DELETE)], ArchiveLimits(0, False, None, False, False)),
        ([rule("a", archived=FOREVER)], ArchiveLimits(None, False, None, True, False)),
        ([rule("a", archived=FOREVER, archived_max=5)], ArchiveLimits(None, False, 5, False, False)),
        ([rule("a", types="x", archived=ttl(7))], ArchiveLimits(7 * DAY, True, None, False, False)),
        (
            [rule("a", types="x", archived=ttl(30)), rule("b", archived=ttl(7))],
            ArchiveLimits(30 * DAY, False, None, False, False),
        ),
        (
            [rule("a", types="x", archived=FOREVER), rule("b", archived=ttl(7), archived_max=5)],
            ArchiveLimits(None, False, 5, False, True),
        ),
    ],
)
def test_the_archive_is_trimmed_by_the_most_patient_rule_of_its_queue(rules: list[Rule], limits: ArchiveLimits) -> None:
    """No limit removes a task earlier than the rule that decided about it."""
    assert Policy(tuple(rules)).archive_limits("q") == limits


def test_an_archive_without_a_rule_has_no_limits_of_ours() -> None:
    """A rule about another queue, or about completed tasks, limits nothing."""
    policy = Policy((rule("a", queues="a", archived=KEEP), rule("b", completed=KEEP)))
    assert policy.archive_limits("b") is None


def test_a_partial_rollout_never_trims_by_age_earlier_than_asynq() -> None:
    """Asynq's own age is a lower bound as long as some tasks live by it."""
    limits = Policy((rule("a", archived=ttl(7)),), rollout=FULL_ROLLOUT - 1).archive_limits("q")
    assert limits is not None
    assert limits.cutoff_own


def test_the_rollout_is_a_share_of_task_ids() -> None:
    """A larger share keeps what a smaller one had, and 100 % is every task."""
    ids = [b"task-%d" % number for number in range(4_000)]
    shares = [
        {i for i in ids if Policy((), rollout=rollout).enforces(i)} for rollout in (0, 1_000, 5_000, FULL_ROLLOUT)
    ]
    assert shares[0] == set()
    assert 300 < len(shares[1]) < 500
    assert shares[1] < shares[2] < shares[3] == set(ids)


def test_the_share_of_a_task_is_the_same_everywhere() -> None:
    """The share is the ID's SHA-1, first 32 bits, modulo 10,000: 0xa9993e36 for `abc`."""
    share = 0xA9993E36 % FULL_ROLLOUT
    assert Policy((), rollout=share + 1).enforces(b"abc")
    assert not Policy((), rollout=share).enforces(b"abc")


@pytest.mark.parametrize(
    ("first", "later", "hidden"),
    [
        (rule("a", archived=KEEP), rule("b", archived=KEEP), True),
        (rule("a", archived=KEEP), rule("b", queues="q", types="t", archived=KEEP), True),
        (rule("a", completed=KEEP), rule("b", archived=KEEP), False),
        (rule("a", queues="q", archived=KEEP), rule("b", archived=KEEP), False),
        (rule("a", queues="q*", archived=KEEP), rule("b", queues="q1 q2", archived=KEEP), True),
        (rule("a", queues="q*", archived=KEEP), rule("b", queues="q1 r", archived=KEEP), False),
        (rule("a", queues="q r", archived=KEEP), rule("b", queues="r", archived=KEEP), True),
        (rule("a", queues="q", types="t", archived=KEEP), rule("b", queues="q", archived=KEEP), False),
    ],
)
def test_a_rule_hides_what_it_decides_entirely(first: Rule, later: Rule, hidden: bool) -> None:
    """Each queue and type of the later rule is covered, and the first speaks about the state."""
    assert first.hides(later, State.ARCHIVED) is hidden


def test_the_default_changes_no_retention() -> None:
    """Without a policy file every task is kept for Asynq's own time."""
    for state in TERMINAL:
        assert DEFAULT_POLICY.decide("any", "any", state) == Verdict("built-in", KEEP)
    assert DEFAULT_POLICY.decide("any", "any", State.DONE) is None


@pytest.mark.parametrize(
    ("rules", "kept", "some"),
    [
        ([rule("a", done=ttl(7))], True, True),
        ([rule("a", done=FOREVER)], True, True),
        ([rule("a", done=KEEP)], False, False),
        ([rule("a", done=DELETE)], False, False),
        ([rule("a", completed=ttl(7), archived=ttl(7))], False, False),
        ([rule("a", queues="other", done=ttl(7))], False, True),
        ([rule("a", types="x", done=KEEP), rule("b", done=ttl(7))], True, True),
        ([rule("a", done=KEEP), rule("b", done=ttl(7))], False, True),
    ],
)
def test_what_succeeds_without_a_retention_is_kept_where_a_rule_gives_it_a_time(
    rules: list[Rule], *, kept: bool, some: bool
) -> None:
    """Asynq's own way, and delete, leave nothing; a queue in which something is kept is concerned."""
    policy = Policy(tuple(rules))
    assert (policy.keeps_done("q"), policy.keeps_some_done) == (kept, some)
    assert policy.concerns("q") is (kept or any(each.completed for each in rules))


@pytest.mark.parametrize(("mode", "expected"), [("enforce", "shadow"), ("shadow", "shadow"), ("off", "off")])
def test_a_policy_can_be_shadowed(mode: str, expected: str) -> None:
    """All it says stays, and nothing is enforced; one that is off stays off."""
    policy = Policy(
        (rule("r"),), mode=Mode(mode), grace_seconds=5, rollout=7, adopt=Adopt.ALL, source="s", digest="d", text="t"
    )
    found = policy.shadowed()
    assert found.mode.value == expected
    for name in ("rules", "grace_seconds", "rollout", "adopt", "source", "digest", "text"):
        assert getattr(found, name) == getattr(policy, name)


@pytest.mark.parametrize(("grace", "expected"), [(5, 60), (60, 60), (90, 90)])
def test_a_policy_leaves_time_for_handing_over(grace: int, expected: int) -> None:
    """Its grace is long enough, and no task goes at once; all else stays."""
    rules = rule("r", archived=Retention(Keep.DELETE)), rule("s", completed=Retention(Keep.DELETE)), rule("t")
    policy = Policy(
        rules, mode=Mode.SHADOW, grace_seconds=grace, rollout=7, adopt=Adopt.OFF, source="s", digest="d", text="t"
    )
    found = policy.handing_over(60)
    second = Retention(Keep.TTL, 1)
    assert found.rules == (rule("r", archived=second), rule("s", completed=second), rule("t"))
    assert found.grace_seconds == expected
    for name in ("mode", "rollout", "adopt", "source", "digest", "text"):
        assert getattr(found, name) == getattr(policy, name)


FOREVER_MAIL = rule("mail", types="mail:*", archived=FOREVER)
DAYLONG = ttl(1)


@pytest.mark.parametrize(
    ("rules", "rollout", "cap"),
    [
        ((rule("r", archived=DAYLONG),), FULL_ROLLOUT, HandoverCap(OWN_ARCHIVE_CAP, spare_untimed=False)),
        ((rule("r", archived=DAYLONG, archived_max=7),), FULL_ROLLOUT, HandoverCap(7, spare_untimed=False)),
        ((rule("r", archived=DAYLONG, archived_max=7),), 1, HandoverCap(OWN_ARCHIVE_CAP, spare_untimed=False)),
        (
            (FOREVER_MAIL, rule("r", archived=DAYLONG, archived_max=7)),
            FULL_ROLLOUT,
            HandoverCap(7, spare_untimed=True),
        ),
        ((FOREVER_MAIL, rule("r", archived=DAYLONG)), FULL_ROLLOUT, None),
        ((rule("r", completed=DAYLONG),), FULL_ROLLOUT, None),
    ],
)
def test_where_tasks_are_handed_over_no_archiving_trims(
    rules: tuple[Rule, ...], rollout: int, cap: HandoverCap | None
) -> None:
    """How many are kept is told apart, since the oldest are handed over first."""
    policy = Policy(rules, rollout=rollout).handing_over(60)
    assert policy.handover_cap("q") == cap
    limits = policy.archive_limits("q")
    if limits is not None:
        assert (limits.cutoff_seconds, limits.cap, limits.uncapped) == (None, None, True)
        assert limits.outlasts(OWN_ARCHIVE_SECONDS)
    assert policy.shadowed().archive_limits("q") == limits


REPLACED = Retention(Keep.TTL, 60, replaceable=True)


@pytest.mark.parametrize("state", ["completed", "archived", "done"])
def test_an_enqueue_replaces_what_a_rule_of_its_queue_says(state: str) -> None:
    """Whatever the state; a rule that comes after one for every type can say nothing."""
    said: dict[str, Any] = {state: REPLACED}
    refused: dict[str, Any] = {state: Retention(Keep.TTL, 60)}
    policy = Policy((rule("a", queues="a", **said), rule("b", **refused), rule("c", **said)))
    assert policy.replaces("a")
    assert not policy.replaces("b")
    assert policy.replaces_some
    assert not Policy((rule("b", **refused),)).replaces_some
    assert not DEFAULT_POLICY.replaces_some


def test_what_is_handed_over_is_replaced_no_less() -> None:
    """What is not kept at all is kept for a second then, and says the same about its ID."""
    thrown = rule("a", archived=Retention(Keep.DELETE, replaceable=True))
    [handing] = Policy((thrown,)).handing_over(3_600).rules
    assert handing.archived == Retention(Keep.TTL, 1, replaceable=True)
