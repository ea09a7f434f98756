"""What a worker's completion or archiving of a task becomes."""

import pytest

from asynq_ttl.events import Action, Decision, FailOpen
from asynq_ttl.policy.rules import (
    FOREVER_SCORE,
    FULL_ROLLOUT,
    UNMATCHED,
    Mode,
    Retention,
    Rule,
)
from asynq_ttl.rewriting.rewriter import Rewriter
from support.policy_calls import (
    ALL,
    ARCHIVE_ONE_CALL,
    DAY,
    DELETE,
    FOREVER,
    GRACE,
    NOW,
    OWN,
    OWN_SECONDS,
    REGISTRY,
    TRIMS_OFF,
    ScriptCall,
    archive,
    complete,
    decided,
    for_seconds,
    policy_of,
    reason_of,
    rewritten,
    set_clock,
    types,
)
from support.task_message import encode_task


def ranks(cap: int) -> bytes:
    """Return the ranks of what is too much where so many are kept, from the end; `-` for any number."""
    return b"- -" if cap < 0 else b"-%d -%d" % (cap + 2, cap + 1)


# --- completed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retention", "tail", "score", "action", "ttl"),
    [
        (for_seconds(7200), b"7260000", NOW + 7200, Action.TTL, 7260),
        (OWN, b"660000", None, Action.KEEP, 660),
        (FOREVER, b"0", FOREVER_SCORE, Action.NONE, None),
        (DELETE, b"-1", None, Action.DELETE, None),
    ],
)
def test_a_completed_task_is_kept_as_its_rule_says(
    retention: Retention, tail: bytes, score: int | None, action: Action, ttl: int | None
) -> None:
    """The key lives retention + grace, and its entry is due after the retention, whatever Asynq asked for."""
    found = rewritten(policy_of(Rule("r", completed=retention)), complete())
    assert found is not None
    assert found.tail == tail
    assert found.argv == (() if score is None else ((2, b"%d" % score),))
    assert found.decision == Decision(
        operation="complete",
        script="asynq.complete",
        queue="q",
        state="completed",
        action=action,
        enforced=True,
        task_id="id",
        task_type="job:x",
        rule="r",
        ttl_seconds=ttl,
        size_bytes=len(complete()[2][2]),
        own_seconds=600,
    )


def test_a_task_without_retention_is_kept_for_a_moment_at_least() -> None:
    """Asynq's own time of 0 is no TTL of 0, which would be none."""
    assert decided(rewritten(policy_of(Rule("r", completed=OWN)), complete(0))).ttl_seconds == 1 + GRACE


def test_the_producer_s_trace_context_goes_into_the_decision() -> None:
    """So that the span can be linked to it."""
    message = encode_task("a", "id", "q", 600, headers={"traceparent": "00-1", "tracestate": "a=b"})
    decision = decided(rewritten(policy_of(ALL), complete(message=message)))
    assert (decision.traceparent, decision.tracestate) == ("00-1", "a=b")


@pytest.mark.parametrize(
    ("call", "tail"),
    [(complete(), b"?%d 7260000" % NOW), (archive(), b"?%d 3660000 %d -10001 -10000 0 60" % (NOW, NOW - 3600))],
    ids=["complete", "archive"],
)
@pytest.mark.parametrize("ahead", [None, -0.5, 8.0])
def test_where_the_clocks_may_differ_the_wrapper_asks(call: ScriptCall, tail: bytes, ahead: float | None) -> None:
    """Redis's clock is behind the caller's, or so far ahead that another score may be due; or nobody knows."""
    set_clock(NOW + ahead) if ahead is not None else REGISTRY.clock.forget()
    try:
        found = rewritten(policy_of(ALL), call)
    finally:
        set_clock()
    assert found is not None
    assert found.tail == tail


def test_what_needs_no_time_is_not_asked_for_it() -> None:
    """A task that completes and is kept for ever, or not at all, is so by any clock."""
    REGISTRY.clock.forget()
    try:
        found = [rewritten(policy_of(Rule("r", completed=kept)), complete()) for kept in (FOREVER, DELETE)]
    finally:
        set_clock()
    assert [each.tail for each in found if each is not None] == [b"0", b"-1"]


# --- archived by a worker ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "tail", "action", "ttl"),
    [
        (
            Rule("r", archived=for_seconds(DAY)),
            b"86460000 %d -10001 -10000 0 60" % (NOW - DAY),
            Action.TTL,
            DAY + GRACE,
        ),
        (
            Rule("r", archived=for_seconds(DAY), archived_max=5),
            b"86460000 %d -7 -6 0 60" % (NOW - DAY),
            Action.TTL,
            DAY + GRACE,
        ),
        (
            Rule("r", archived=OWN),
            b"%d000 %d -10001 -10000 0 60" % (OWN_SECONDS + GRACE, NOW - OWN_SECONDS),
            Action.KEEP,
            OWN_SECONDS + GRACE,
        ),
        (Rule("r", archived=FOREVER), b"0 - - - 0 60", Action.NONE, None),
        (Rule("r", archived=FOREVER, archived_max=5), b"0 - -7 -6 0 60", Action.NONE, None),
        (Rule("r", archived=DELETE), b"-1 %d -10001 -10000 0 60" % NOW, Action.DELETE, None),
    ],
)
def test_a_failed_task_is_kept_as_its_rule_says(rule: Rule, tail: bytes, action: Action, ttl: int | None) -> None:
    """The wrapper trims by the policy's age and number; the script's own trims find nothing."""
    found = rewritten(policy_of(rule), archive())
    assert found is not None
    assert found.tail == tail
    assert found.argv == TRIMS_OFF
    assert found.decision == Decision(
        operation="archive",
        script="asynq.archive",
        queue="q",
        state="archived",
        action=action,
        enforced=True,
        task_id="id",
        task_type="job:x",
        rule="r",
        ttl_seconds=ttl,
        size_bytes=len(archive()[2][1]),
        own_seconds=OWN_SECONDS,
    )


def test_a_short_rule_never_trims_what_a_longer_one_keeps() -> None:
    """The archive is trimmed at the age of the longest rule that can apply, also when a short one decides."""
    policy = policy_of(Rule("noise", types=types("ping:*"), archived=for_seconds(60)), ALL)
    for task_type, milliseconds in (("ping:1", 120_000), ("job:x", 3_660_000)):
        found = rewritten(policy, archive(task_type))
        assert found is not None
        assert found.tail == b"%d %d -10001 -10000 0 60" % (milliseconds, NOW - 3600)


def test_asynq_s_own_time_is_a_lower_bound_where_a_rule_keeps_it() -> None:
    """A `keep` rule beside a shorter one moves the cutoff out to Asynq's, not to the shorter one."""
    policy = policy_of(Rule("short", types=types("a"), archived=for_seconds(60)), Rule("rest", archived=OWN))
    found = rewritten(policy, archive("a"))
    assert found is not None
    assert found.tail == b"120000 %d -10001 -10000 0 60" % (NOW - OWN_SECONDS)


def test_what_is_kept_for_ever_is_spared_when_others_are_counted() -> None:
    """Beside a rule for ever, nothing is trimmed by age, and by number only what has a TTL."""
    policy = policy_of(
        Rule("money", types=types("pay:*"), archived=FOREVER),
        Rule("rest", archived=for_seconds(DAY), archived_max=5),
    )
    found = rewritten(policy, archive())
    assert found is not None
    assert found.tail == b"86460000 - -7 -6 1 60"


@pytest.mark.parametrize(
    ("kept", "cutoff", "cap"),
    [(FOREVER, b"-", -1), (for_seconds(100 * DAY), b"%d" % (NOW - 100 * DAY), 9999)],
)
def test_a_type_without_a_rule_beside_a_longer_one_keeps_asynq_s_time(kept: Retention, cutoff: bytes, cap: int) -> None:
    """Asynq's own trims are off, so the task gets Asynq's time as the TTL of its key."""
    found = rewritten(policy_of(Rule("long", types=types("pay:*"), archived=kept)), archive())
    assert found is not None
    assert found.tail == b"%d000 %b %b %d 60" % (OWN_SECONDS + GRACE, cutoff, ranks(cap), kept is FOREVER)
    decision = decided(found)
    assert (decision.rule, decision.action, decision.ttl_seconds) == (UNMATCHED, Action.KEEP, OWN_SECONDS + GRACE)


def test_a_type_without_a_rule_beside_a_shorter_one_is_left_alone() -> None:
    """Asynq's own trims remove nothing that a rule keeps, so the command goes as it came."""
    assert rewritten(policy_of(Rule("short", types=types("pay:*"), archived=for_seconds(DAY))), archive()) is None


@pytest.mark.parametrize(("cap", "own_cap", "expected"), [(5, 10_000, 9999), (5, 4, 5), (20_000, 10_000, 20_000)])
def test_a_partial_rollout_never_trims_earlier_than_asynq(cap: int, own_cap: int, expected: int) -> None:
    """Tasks that are only shadowed live by Asynq's age and number, so these are lower bounds."""
    policy = policy_of(Rule("r", archived=for_seconds(DAY), archived_max=cap), rollout=FULL_ROLLOUT - 1)
    found = rewritten(policy, archive(cap=own_cap))
    assert found is not None
    assert found.tail == b"86460000 %d %b 0 60" % (NOW - OWN_SECONDS, ranks(expected))


@pytest.mark.parametrize(
    ("kept", "cap", "tail"),
    [
        (FOREVER, None, b"-2 - - - 0 60"),
        (for_seconds(100 * DAY), None, b"-2 %d -10001 -10000 0 60" % (NOW - 100 * DAY)),
        (for_seconds(DAY), 20_000, b"-2 %d -20002 -20001 0 60" % (NOW - OWN_SECONDS)),
        (for_seconds(DAY), 5, None),
    ],
)
def test_a_task_outside_the_share_trims_nothing_that_is_kept_longer(
    kept: Retention, cap: int | None, tail: bytes | None
) -> None:
    """Where the policy outlasts Asynq, its own trims are off for a task too that is only shadowed."""
    policy = policy_of(Rule("r", archived=kept, archived_max=cap), rollout=1)
    found = rewritten(policy, archive())
    assert found is not None
    assert not decided(found).enforced
    assert (found.enforced, found.tail) == (tail is not None, tail or found.tail)


@pytest.mark.parametrize(("cap", "kept"), [(10_000, 9_999), (2, 1), (1, 0), (0, -1)])
def test_asynq_keeps_one_entry_fewer_than_it_says(cap: int, kept: int) -> None:
    """Without a `max` the number of entries is what Asynq would leave; any number where it says none."""
    found = rewritten(policy_of(Rule("r", archived=for_seconds(DAY))), archive(cap=cap))
    assert found is not None
    assert found.tail == b"86460000 %d %b 0 60" % (NOW - DAY, ranks(kept))


# --- not enforced, not concerned --------------------------------------------------------------------------


def test_a_completed_task_of_a_type_without_a_rule_goes_as_it_came() -> None:
    """A rule for another type of the queue changes nothing about it."""
    assert rewritten(policy_of(Rule("r", types=types("pay:*"), completed=for_seconds(1))), complete()) is None


def test_ghosts_are_healed_after_the_rules_of_their_queue_are_gone() -> None:
    """Entries that an earlier policy left behind neither fail a completion nor delete what an archiving trims."""
    healed = {"q"}
    for later in (policy_of(), policy_of(ALL, mode=Mode.SHADOW)):
        assert rewritten(Rewriter(later, healed), ARCHIVE_ONE_CALL) is not None
        completed, archived = (rewritten(Rewriter(later, healed), call) for call in (complete(), archive()))
        assert completed is not None
        assert archived is not None
        assert (completed.enforced, completed.tail, completed.argv) == (True, b"-2", ())
        assert (archived.enforced, archived.tail) == (True, b"-2 %d -10001 -10000 0 60" % (NOW - OWN_SECONDS))
        assert archived.argv == TRIMS_OFF
        for found in (completed, archived):
            assert found.decision is None or not found.decision.enforced


# --- what is not understood -------------------------------------------------------------------------------


def test_an_expiry_that_does_not_fit_the_retention_is_not_understood() -> None:
    """The time of completion is expiry less retention; where that is no time, no expiry can be set by it."""
    message = encode_task("job:x", "id", "q", NOW + 601)
    assert reason_of(policy_of(ALL), complete(message=message)) is FailOpen.ARGUMENTS


def test_a_retention_past_any_number_is_not_understood() -> None:
    """A TTL that Lua's numbers cannot carry is not set."""
    assert reason_of(policy_of(Rule("r", completed=OWN)), complete(10**14)) is FailOpen.ARGUMENTS


JSON = b'{"type": "job:x", "id": "id"}'


def test_a_completion_whose_message_does_not_decode_is_not_understood() -> None:
    """Without its Retention nobody knows when it has completed."""
    assert reason_of(policy_of(ALL), complete(message=JSON)) is FailOpen.MESSAGE


def test_an_archived_task_whose_message_does_not_decode_has_the_rule_for_every_type() -> None:
    """No glob matches a type that cannot be read, and the archive is trimmed as for any other task."""
    text, keys, args = archive()
    unreadable = (text, keys, [args[0], JSON, *args[2:]])
    every = policy_of(Rule("any", types=types("*"), archived=DELETE), ALL)
    found = rewritten(every, unreadable)
    assert found is not None
    assert found.tail is not None
    assert found.tail.split()[0] == b"%d" % ((3600 + GRACE) * 1000)
    assert (decided(found).rule, decided(found).task_type, decided(found).task_id) == ("all", "", "id")
    assert rewritten(policy_of(Rule("any", types=types("*"), archived=DELETE)), unreadable) is None


def test_the_producer_s_trace_context_is_looked_for_where_somebody_said() -> None:
    """With a path the decision has what the payload says; without one nothing is looked for."""
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    payload = b'{"meta": {"traceparent": "%b"}}' % traceparent.encode()
    call = complete(message=encode_task("job:x", "id", "q", 600, payload=payload))
    for path, expected in (((), ""), (("meta", "traceparent"), traceparent)):
        found = rewritten(Rewriter(policy_of(ALL), set(), path), call)
        assert found is not None
        assert found.decision is not None
        assert found.decision.traceparent == expected
