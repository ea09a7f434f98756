import json
from dataclasses import replace

import pytest

from asynq_ttl.events import Action, Decision, FailOpen
from asynq_ttl.policy import reach
from asynq_ttl.policy.glob import Glob, compile_glob
from asynq_ttl.policy.rules import (
    FOREVER_SCORE,
    FULL_ROLLOUT,
    UNMATCHED,
    Keep,
    Mode,
    Policy,
    Retention,
    Rule,
    State,
    Verdict,
)
from asynq_ttl.rewriting import by_hand, ending, reviving
from asynq_ttl.rewriting.by_hand import HEALING_RULES
from asynq_ttl.rewriting.call import NotUnderstood, Rewrite
from asynq_ttl.rewriting.registry import Script, ScriptRegistry
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

FOREVER, DELETE, OWN = Retention(Keep.FOREVER), Retention(Keep.DELETE), Retention(Keep.OWN)


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
EVERY_CALL = {
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


def rules_sent(found: Rewrite | None) -> dict[str, object]:
    """Return what a bulk wrapper is told."""
    assert found is not None
    assert found.tail is not None
    told: dict[str, object] = json.loads(found.tail.decode("latin-1"))
    return told


ALL = Rule("all", completed=for_seconds(7200), archived=for_seconds(3600))


# --- completed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retention", "tail", "score", "action", "ttl"),
    [
        (for_seconds(7200), b"7260000 %d" % NOW, NOW + 7200, Action.TTL, 7260),
        (OWN, b"660000 %d" % NOW, None, Action.KEEP, 660),
        (FOREVER, b"0 %d" % NOW, FOREVER_SCORE, Action.NONE, None),
        (DELETE, b"-1 %d" % NOW, None, Action.DELETE, None),
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


# --- archived by a worker ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "tail", "action", "ttl"),
    [
        (Rule("r", archived=for_seconds(DAY)), b"86460000 %d 9999 0 60" % (NOW - DAY), Action.TTL, DAY + GRACE),
        (
            Rule("r", archived=for_seconds(DAY), archived_max=5),
            b"86460000 %d 5 0 60" % (NOW - DAY),
            Action.TTL,
            DAY + GRACE,
        ),
        (
            Rule("r", archived=OWN),
            b"%d000 %d 9999 0 60" % (OWN_SECONDS + GRACE, NOW - OWN_SECONDS),
            Action.KEEP,
            OWN_SECONDS + GRACE,
        ),
        (Rule("r", archived=FOREVER), b"0 - -1 0 60", Action.NONE, None),
        (Rule("r", archived=FOREVER, archived_max=5), b"0 - 5 0 60", Action.NONE, None),
        (Rule("r", archived=DELETE), b"-1 %d 9999 0 60" % NOW, Action.DELETE, None),
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
        assert found.tail == b"%d %d 9999 0 60" % (milliseconds, NOW - 3600)


def test_asynq_s_own_time_is_a_lower_bound_where_a_rule_keeps_it() -> None:
    """A `keep` rule beside a shorter one moves the cutoff out to Asynq's, not to the shorter one."""
    policy = policy_of(Rule("short", types=types("a"), archived=for_seconds(60)), Rule("rest", archived=OWN))
    found = rewritten(policy, archive("a"))
    assert found is not None
    assert found.tail == b"120000 %d 9999 0 60" % (NOW - OWN_SECONDS)


def test_what_is_kept_for_ever_is_spared_when_others_are_counted() -> None:
    """Beside a rule for ever, nothing is trimmed by age, and by number only what has a TTL."""
    policy = policy_of(
        Rule("money", types=types("pay:*"), archived=FOREVER),
        Rule("rest", archived=for_seconds(DAY), archived_max=5),
    )
    found = rewritten(policy, archive())
    assert found is not None
    assert found.tail == b"86460000 - 5 1 60"


@pytest.mark.parametrize(
    ("kept", "cutoff", "cap"),
    [(FOREVER, b"-", -1), (for_seconds(100 * DAY), b"%d" % (NOW - 100 * DAY), 9999)],
)
def test_a_type_without_a_rule_beside_a_longer_one_keeps_asynq_s_time(kept: Retention, cutoff: bytes, cap: int) -> None:
    """Asynq's own trims are off, so the task gets Asynq's time as the TTL of its key."""
    found = rewritten(policy_of(Rule("long", types=types("pay:*"), archived=kept)), archive())
    assert found is not None
    assert found.tail == b"%d000 %b %d %d 60" % (OWN_SECONDS + GRACE, cutoff, cap, kept is FOREVER)
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
    assert found.tail == b"86460000 %d %d 0 60" % (NOW - OWN_SECONDS, expected)


@pytest.mark.parametrize(
    ("kept", "cap", "tail"),
    [
        (FOREVER, None, b"-2 - -1 0 60"),
        (for_seconds(100 * DAY), None, b"-2 %d 9999 0 60" % (NOW - 100 * DAY)),
        (for_seconds(DAY), 20_000, b"-2 %d 20000 0 60" % (NOW - OWN_SECONDS)),
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


@pytest.mark.parametrize(("cap", "kept"), [(10_000, 9_999), (2, 1), (1, 0), (0, 0)])
def test_asynq_keeps_one_entry_fewer_than_it_says(cap: int, kept: int) -> None:
    """Without a `max` the number of entries is what Asynq would leave."""
    found = rewritten(policy_of(Rule("r", archived=for_seconds(DAY))), archive(cap=cap))
    assert found is not None
    assert found.tail == b"86460000 %d %d 0 60" % (NOW - DAY, kept)


# --- archived by hand -------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [ARCHIVE_ONE_CALL, ARCHIVE_ALL_CALL], ids=["one", "all"])
def test_where_the_type_is_unknown_the_wrapper_gets_the_rules(
    call: ScriptCall,
) -> None:
    """Every rule that can apply goes along in order, with its limits, and nothing else of the command changes."""
    policy = policy_of(
        Rule("a", types=types("ping:*", "é?"), archived=for_seconds(60)),
        Rule("b", types=types("x"), archived=OWN),
        Rule("silent", completed=for_seconds(1)),
        Rule("other", queues=types("other"), archived=for_seconds(1)),
        Rule("c", types=types("y"), archived=FOREVER),
        Rule("d", archived=DELETE, archived_max=7),
    )
    found = rewritten(policy, call)
    assert rules_sent(found) == {
        "rules": [
            {"types": [glob.lua.decode("latin-1") for glob in types("ping:*", "é?")], "seconds": 60},
            {"types": ["^x$"], "seconds": "own"},
            {"types": ["^y$"], "seconds": -1},
            {"types": [], "seconds": 0},
        ],
        "grace": GRACE,
        "share": FULL_ROLLOUT,
        "cutoff": -1,
        "cutoff_own": True,
        "cap": 7,
        "uncapped": False,
        "spare": True,
    }
    assert found is not None
    assert found.argv == ()
    decision = decided(found)
    assert (decision.operation, decision.state, decision.action) == ("archive", "archived", Action.TTL)
    assert (decision.rule, decision.ttl_seconds) == ("", None)
    assert decision.task_id == ("id" if call is ARCHIVE_ONE_CALL else "")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((Rule("r", archived=for_seconds(60)),), {"cutoff": 60, "cutoff_own": False, "cap": -1, "uncapped": False}),
        ((Rule("r", archived=FOREVER),), {"cutoff": -1, "cap": -1, "uncapped": True, "spare": False}),
        ((Rule("r", types=types("a"), archived=FOREVER),), {"cutoff": -1, "uncapped": True, "unmatched": "own"}),
        ((Rule("r", types=types("a"), archived=for_seconds(91 * DAY)),), {"unmatched": "own", "cutoff_own": True}),
    ],
)
def test_the_limits_of_the_queue_go_with_its_rules(rules: tuple[Rule, ...], expected: dict[str, object]) -> None:
    """The wrapper trims by the same limits as for a worker; types without a rule keep Asynq's time."""
    told = rules_sent(rewritten(policy_of(*rules), ARCHIVE_ALL_CALL))
    assert {name: told.get(name) for name in expected} == expected


def test_types_without_a_rule_get_nothing_where_nothing_outlasts_asynq() -> None:
    """Beside shorter rules only, a type without a rule keeps to Asynq's own trims."""
    told = rules_sent(rewritten(policy_of(Rule("r", types=types("a"), archived=for_seconds(60))), ARCHIVE_ALL_CALL))
    assert "unmatched" not in told


@pytest.mark.parametrize(
    ("kept", "action"),
    [(for_seconds(1), Action.TTL), (OWN, Action.KEEP), (FOREVER, Action.NONE), (DELETE, Action.DELETE)],
)
def test_a_sole_rule_is_named_even_in_bulk(kept: Retention, action: Action) -> None:
    """Where one rule decides about every type, the decision says so."""
    decision = decided(rewritten(policy_of(Rule("sole", archived=kept)), ARCHIVE_ALL_CALL))
    assert (decision.rule, decision.action) == ("sole", action)


def test_the_rules_of_a_queue_are_put_together_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was worked out for a queue is used again; the memory for it has a limit."""
    rewriter = Rewriter(policy_of(ALL), set())
    tails = [rewritten(rewriter, ARCHIVE_ALL_CALL) for _ in range(2)]
    assert tails[0] is not None
    assert tails[1] is not None
    assert tails[0].tail is tails[1].tail
    monkeypatch.setattr(by_hand, "_MEMORY_LIMIT", 1)
    text, keys, args = ARCHIVE_ALL_CALL
    elsewhere = (text, [key.replace(b"{q}", b"{r}") for key in keys], [*args[:3], b"asynq:{r}:t:"])
    assert rules_sent(rewritten(rewriter, elsewhere)) == rules_sent(tails[0])
    again = rewritten(rewriter, ARCHIVE_ALL_CALL)
    assert again is not None
    assert again.tail == tails[0].tail
    assert again.tail is not tails[0].tail


def forget_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no memory for queues."""
    for module in (by_hand, ending, reach, reviving):
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


@pytest.mark.parametrize("kind", ["dequeue", "dequeue_timed", "delete_all", "janitor"])
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
    if enforced.decision is None:
        assert shadowed is None
    else:
        assert shadowed == enforced._replace(enforced=False, decision=enforced.decision._replace(enforced=False))


@each_kind
def test_without_a_rule_for_it_a_command_goes_as_it_came(kind: str) -> None:
    """No rule for the queue, or none that says anything about the state."""
    assert rewritten(policy_of(), EVERY_CALL[kind]) is None
    assert rewritten(policy_of(replace(ALL, queues=types("other"))), EVERY_CALL[kind]) is None
    if kind in ("complete", "archive", "archive_all"):
        silent = replace(ALL, completed=None) if kind == "complete" else replace(ALL, archived=None)
        assert rewritten(policy_of(silent), EVERY_CALL[kind]) is None


def test_a_completed_task_of_a_type_without_a_rule_goes_as_it_came() -> None:
    """A rule for another type of the queue changes nothing about it."""
    assert rewritten(policy_of(Rule("r", types=types("pay:*"), completed=for_seconds(1))), complete()) is None


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


@pytest.mark.parametrize("policy", [policy_of(replace(ALL, archived=None)), policy_of(ALL, rollout=0)])
def test_a_task_that_is_archived_by_hand_brings_no_ttl_from_completed(policy: Policy) -> None:
    """Where no rule gives it one as archived, the wrapper takes off what it had, and trims as Asynq does."""
    found = rewritten(policy, ARCHIVE_ONE_CALL)
    assert found is not None
    assert (found.enforced, found.tail, found.argv) == (True, HEALING_RULES, ())
    assert found.decision is None or not found.decision.enforced


def test_ghosts_are_healed_after_the_rules_of_their_queue_are_gone() -> None:
    """Entries that an earlier policy left behind neither fail a completion nor delete what an archiving trims."""
    healed = {"q"}
    for later in (policy_of(), policy_of(ALL, mode=Mode.SHADOW)):
        assert rewritten(Rewriter(later, healed), ARCHIVE_ONE_CALL) is not None
        completed, archived = (rewritten(Rewriter(later, healed), call) for call in (complete(), archive()))
        assert completed is not None
        assert archived is not None
        assert (completed.enforced, completed.tail, completed.argv) == (True, b"-2 0", ())
        assert (archived.enforced, archived.tail) == (True, b"-2 %d 9999 0 60" % (NOW - OWN_SECONDS))
        assert archived.argv == TRIMS_OFF
        for found in (completed, archived):
            assert found.decision is None or not found.decision.enforced


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


def test_a_rollout_of_nothing_rewrites_no_bulk_command() -> None:
    """With no task in the share the archive is trimmed as Asynq does it."""
    none, one = (rewritten(policy_of(ALL, rollout=share), ARCHIVE_ALL_CALL) for share in (0, 1))
    assert none is not None
    assert one is not None
    assert (none.enforced, one.enforced) == (False, True)
    assert rules_sent(one)["share"] == 1


# --- what is not understood -------------------------------------------------------------------------------


def reason_of(policy: Policy, call: ScriptCall) -> FailOpen:
    """Return why a call is not understood."""
    with pytest.raises(NotUnderstood) as caught:
        rewritten(policy, call)
    assert str(caught.value)
    return caught.value.reason


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


def test_an_expiry_that_does_not_fit_the_retention_is_not_understood() -> None:
    """The time of completion is expiry less retention; where that is no time, no expiry can be set by it."""
    message = encode_task("job:x", "id", "q", NOW + 601)
    assert reason_of(policy_of(ALL), complete(message=message)) is FailOpen.ARGUMENTS


def test_a_retention_past_any_number_is_not_understood() -> None:
    """A TTL that Lua's numbers cannot carry is not set."""
    assert reason_of(policy_of(Rule("r", completed=OWN)), complete(10**14)) is FailOpen.ARGUMENTS


@pytest.mark.parametrize("kind", ["complete", "archive"])
def test_a_message_that_does_not_decode_is_not_understood(kind: str) -> None:
    """Its type cannot be known, so no rule can decide."""
    text, keys, args = EVERY_CALL[kind]
    broken = [b"\xff" if len(arg) > 15 else arg for arg in args]
    assert reason_of(policy_of(ALL), (text, keys, broken)) is FailOpen.MESSAGE


class FaultyPolicy(Policy):
    """A policy that cannot be evaluated."""

    def decide(self, queue: str, task_type: str, state: State) -> Verdict | None:
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
    rewriter = Rewriter(policy_of(Rule("at once", archived=Retention(Keep.DELETE))), set(), hands_over=True)
    assert tail_of(rewriter, archive()).split()[:2] == [b"%d" % (1000 + reach.HANDOVER_GRACE_SECONDS * 1000), b"-"]
    by_inspector = tail_of(rewriter, ARCHIVE_ALL_CALL)
    assert b'"seconds":1' in by_inspector
    assert b'"cutoff":-1' in by_inspector
    healing = Rewriter(policy_of(), {"q"}, hands_over=True)
    assert tail_of(healing, archive()).split()[1] == b"-"
    assert b'"cutoff":-1' in tail_of(healing, ARCHIVE_ONE_CALL)
