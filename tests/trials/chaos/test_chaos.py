"""A short run of the chaos (`make chaos` is the long one), and proof that its verdict misses nothing."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from asynq_ttl.wire.commands import encode
from support.servers import Server
from trials.chaos import campaign, census, history
from trials.chaos.traffic import Operation
from trials.chaos.verdict import Evidence, Look, judge

QUEUE = "orders"
PREFIX = f"asynq:{{{QUEUE}}}:"
NOW_MS = 1_800_000_000_000
WITHIN_S, GRACE_S = 5, 4

Commands = list[str]


@pytest.mark.timeout(240)
def test_nothing_goes_wrong_while_sidecars_and_valkey_are_killed(tmp_path: Path) -> None:
    """Real Asynq and some kills: every task comes to an end it may come to, and nothing is left behind."""
    plan = campaign.Plan(seconds=25, seed=4, server="valkey", rate=100, pause_seconds=3, hasten=True, folder=tmp_path)
    report = campaign.run(plan)
    assert report["verdict"] == "ok", json.dumps(report, indent=2)
    assert sum(report["kills"].values()) >= 3
    assert report["sabotages"] >= 10
    ends = report["tasks"]
    assert ends["accepted"] > 1000
    assert min(ends["done"], ends["swept when due"], ends["deleted by policy"], ends["kept archived"]) > 0
    assert min(report["replaced"], report["conflicts"]) > 0
    assert min(ends.get("held archived", 0) + ends.get("held completed", 0), report["kept_without_retention"]) > 0
    assert report["tasks_seen"] > 1000


# --- the look at the keyspace ---------------------------------------------------------------------------------


def _sound(client: Redis) -> None:
    """Leave a task in each state, all as they should be."""
    for task_id, state in {
        "order-1": "pending",
        "order-2": "active",
        "order-3": "retry",
        "order-4": "scheduled",
    }.items():
        client.hset(f"{PREFIX}t:{task_id}", mapping={"state": state, "msg": "m"})
    client.lpush(f"{PREFIX}pending", "order-1")
    client.lpush(f"{PREFIX}active", "order-2")
    client.zadd(f"{PREFIX}lease", {"order-2": 1})
    client.zadd(f"{PREFIX}retry", {"order-3": 1})
    client.zadd(f"{PREFIX}scheduled", {"order-4": 1})
    for task_id, state in {"order-5": "archived", "order-6": "completed", "precious-7": "archived"}.items():
        client.hset(f"{PREFIX}t:{task_id}", mapping={"state": state, "msg": "m"})
        client.zadd(f"{PREFIX}{state}", {task_id: 1})
    client.pexpire(f"{PREFIX}t:order-5", 8000)
    client.pexpire(f"{PREFIX}t:order-6", 3000)


PLANTED: dict[str, tuple[Callable[[Redis], Any], set[tuple[str, str]]]] = {
    "nothing": (lambda client: None, set()),
    "the hash of an archived task is gone": (
        lambda client: client.delete(f"{PREFIX}t:order-5"),
        {("ghost", "order-5")},
    ),
    "a pending task is in the archive too": (
        lambda client: client.zadd(f"{PREFIX}archived", {"order-1": 1}),
        {("ghost", "order-1")},
    ),
    "a pending task is listed twice": (
        lambda client: client.lpush(f"{PREFIX}pending", "order-1"),
        {("twice", "order-1")},
    ),
    "a lease of a task that is not active": (
        lambda client: client.zadd(f"{PREFIX}lease", {"order-1": 1}),
        {("ghost", "order-1")},
    ),
    "an archived task is in no index": (
        lambda client: client.zrem(f"{PREFIX}archived", "order-5"),
        {("orphan", "order-5")},
    ),
    "an active task is in no list": (
        lambda client: client.delete(f"{PREFIX}active", f"{PREFIX}lease"),
        {("orphan", "order-2")},
    ),
    "a task has no message": (
        lambda client: client.hdel(f"{PREFIX}t:order-1", "msg"),
        {("half", "order-1")},
    ),
    "a live task has a TTL": (
        lambda client: client.pexpire(f"{PREFIX}t:order-3", 8000),
        {("live-ttl", "order-3")},
    ),
    "a completed task has no TTL": (
        lambda client: client.persist(f"{PREFIX}t:order-6"),
        {("untimed", "order-6")},
    ),
    "a task lives too long": (
        lambda client: client.pexpire(f"{PREFIX}t:order-6", 60_000),
        {("overtimed", "order-6")},
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_look_at_the_keyspace_finds_every_fault(server: Server, planted: str) -> None:
    """Each thing that must not be is found, and nothing else is."""
    plant, expected = PLANTED[planted]
    with server.client() as client:
        _sound(client)
        plant(client)
        looked, *others = census.take(client)
    assert {(fault.kind, fault.task_id) for fault in looked.faults()} == expected
    assert not any(other.tasks for other in others)
    assert looked.unfinished >= 5


# --- what was written -----------------------------------------------------------------------------------------


def _clock(after_ms: int) -> list[Commands]:
    return [["SET", "chaos:clock", str(NOW_MS + after_ms)]]


def _step(*commands: Commands) -> list[Commands]:
    return [["MULTI"], *commands, ["EXEC"]]


def _enqueued(task_id: str = "order-1") -> list[Commands]:
    return _step(
        ["HSET", f"{PREFIX}t:{task_id}", "msg", "m", "state", "pending"], ["LPUSH", f"{PREFIX}pending", task_id]
    )


def _active(task_id: str = "order-1") -> list[Commands]:
    return _step(
        ["RPOPLPUSH", f"{PREFIX}pending", f"{PREFIX}active"], ["HSET", f"{PREFIX}t:{task_id}", "state", "active"]
    )


def _settled(state: str = "completed", after_ms: int = 0, task_id: str = "order-1", score: int = 1) -> list[Commands]:
    due = NOW_MS + after_ms + (WITHIN_S + GRACE_S) * 1000
    return _clock(after_ms) + _step(
        ["LREM", f"{PREFIX}active", "0", task_id],
        ["ZADD", f"{PREFIX}{state}", str(score), task_id],
        ["HSET", f"{PREFIX}t:{task_id}", "msg", "m", "state", state],
        ["PEXPIREAT", f"{PREFIX}t:{task_id}", str(due)],
    )


def _swept(after_ms: int, state: str = "completed", task_id: str = "order-1") -> list[Commands]:
    step = _step(["DEL", f"{PREFIX}t:{task_id}"], ["ZREM", f"{PREFIX}{state}", task_id])
    return _clock(after_ms) + step + _clock(after_ms + 100)


ROUND = [["SET", "asynq-ttl:sweeper", "a"]]


def _rounds(count: int) -> list[Commands]:
    """Sweep so many times, beginning after 30 seconds."""
    written = [each for number in range(count) for each in (*_clock(30_000 + number * 500), *ROUND)]
    return written + _clock(41_000)


def _evidence(written: list[Commands], **changed: Any) -> Evidence:
    """Return the evidence of one accepted task that ended well."""
    file = b"".join(encode([word.encode() for word in command]) for command in written)
    evidence = {
        "accepted": {"order-1": QUEUE},
        "refusals": [],
        "outcomes": {"order-1": {"ok"}},
        "operations": [],
        "kill_ms": [],
        "history": history.read(history.steps_of([file[:7], file[7:]])),
        "looks": [],
        "swept": [],
        "over": [],
        **changed,
    }
    return Evidence(**evidence)


GONE = [*_clock(9000), ["DEL", f"{PREFIX}t:order-1"], *_clock(9100)]
# "Run all" meets an entry whose task's time is over: Redis deletes the task in that very step.
RUN_ALL = _step(["DEL", f"{PREFIX}t:order-1"], ["ZREM", f"{PREFIX}archived", "order-1"], ["DEL", f"{PREFIX}archived"])
FOUND_GONE = _clock(9050) + RUN_ALL + _clock(9100)
FOUND_GOING = _clock(8950) + RUN_ALL + _clock(9050)
DONE = _step(["LREM", f"{PREFIX}active", "0", "order-1"], ["DEL", f"{PREFIX}t:order-1"])
# A task of a kind that a `done` rule keeps: as the rule says, and as Asynq itself would end it.
BRIEF_DONE = _step(["LREM", f"{PREFIX}active", "0", "brief-1"], ["DEL", f"{PREFIX}t:brief-1"])
BRIEF_KEPT = BRIEF_DONE[:-1] + _settled(task_id="brief-1")[3:]
BRIEF = _enqueued("brief-1") + _active("brief-1")
BRIEF_ACCEPTED = {"accepted": {"brief-1": QUEUE}, "outcomes": {"brief-1": {"ok"}}}


def _hold(task_id: str) -> Commands:
    return ["HSET", f"{PREFIX}t:{task_id}", "asynq_ttl_hold", "1 2 3"]


HOLD = _hold("order-1")
HELD = _step(HOLD, ["PERSIST", f"{PREFIX}t:order-1"], ["ZADD", f"{PREFIX}completed", "253402300798", "order-1"])
RELEASED = _step(
    ["HDEL", f"{PREFIX}t:order-1", "asynq_ttl_hold"],
    ["PEXPIREAT", f"{PREFIX}t:order-1", str(NOW_MS + 80_000)],
)
# A task of a kind whose ended tasks are replaced, and of another.
REDO = _enqueued("redo-1") + _active("redo-1") + _settled(task_id="redo-1")
REDO_ENDED = {"accepted": {"redo-1": QUEUE}, "outcomes": {"redo-1": {"ok"}}, "times": Counter({"redo-1": 2})}


def _replaced(task_id: str) -> list[Commands]:
    """Put a completed task aside, add another with its ID, and let that be kept too."""
    aside = ["RENAME", f"{PREFIX}t:{task_id}", f"{PREFIX}asynq-ttl-aside"]
    step = _step(aside, *_enqueued(task_id)[1:-1], ["DEL", aside[2]], ["ZREM", f"{PREFIX}completed", task_id])
    return step + _active(task_id) + _settled(task_id=task_id)


KEPT_HELD = [census.Census(QUEUE, {"order-1": census.Task("completed", True, -1, True)}, {"completed": ["order-1"]})]
FAILED = Operation("queue_info", QUEUE, "", "", NOW_MS / 1000 + 9.2, NOW_MS / 1000 + 9.3, "ERR @user_script: 16: nil")
GHOST = census.Fault("ghost", QUEUE, "order-1", "")
LOOK, LATE_LOOK = (Look(NOW_MS + after_ms, (GHOST,)) for after_ms in (9500, 40_000))
LONG_LOOK = Look(NOW_MS + 20_000, (census.Fault("overtimed", QUEUE, "order-1", ""),))


@pytest.mark.parametrize(
    ("written", "changed", "end"),
    [
        (_enqueued() + _active() + DONE, {}, "done"),
        (_enqueued() + _active() + _settled() + _swept(5000), {}, "swept when due"),
        (_enqueued() + _active() + _settled("archived") + _swept(8000, "archived"), {}, "swept when due"),
        (
            _enqueued() + _active() + _settled() + GONE,
            {"kill_ms": [NOW_MS + 4000], "looks": [LOOK], "operations": [FAILED]},
            "expired when nobody swept",
        ),
        (
            _enqueued() + _active() + _settled() + GONE + _rounds(3),
            {"kill_ms": [NOW_MS + 4000], "looks": [LATE_LOOK]},
            "expired when nobody swept",
        ),
        (
            _enqueued() + _active() + _settled("archived") + FOUND_GONE,
            {"kill_ms": [NOW_MS + 4000], "looks": [LOOK]},
            "expired when nobody swept",
        ),
        (
            _enqueued() + _active() + _settled("archived") + FOUND_GOING,
            {"kill_ms": [NOW_MS + 4000], "looks": [Look(NOW_MS + 9020, (GHOST,))]},
            "deleted by hand",
        ),
        (
            _enqueued() + _active() + _settled() + _swept(1000),
            {"operations": [Operation("delete_task", QUEUE, "", "order-1", NOW_MS / 1000, NOW_MS / 1000, "")]},
            "swept when due",
        ),
        (
            _clock(0)
            + _enqueued()
            + _active()
            + _settled(after_ms=4000, score=NOW_MS // 1000 + WITHIN_S)
            + _swept(5000),
            {},
            "swept when due",
        ),
        (BRIEF + BRIEF_KEPT + _swept(5000, task_id="brief-1"), BRIEF_ACCEPTED, "swept when due"),
        (_enqueued() + _active() + _settled() + HELD, {"over": KEPT_HELD, "held": {"order-1"}}, "held completed"),
        (REDO + _replaced("redo-1") + _swept(5000, task_id="redo-1"), REDO_ENDED, "swept when due"),
        (
            _enqueued() + _active() + _settled() + HELD + RELEASED + _swept(20_000),
            {"looks": [LONG_LOOK]},
            "swept when due",
        ),
    ],
    ids=[
        "done",
        "completed",
        "archived",
        "nobody swept",
        "nobody swept for long",
        "nobody swept before all are run",
        "nobody swept while all are run",
        "by hand",
        "completed, and told late",
        "kept without a retention",
        "held",
        "replaced",
        "released",
    ],
)
def test_the_verdict_lets_proper_ends_pass(written: list[Commands], changed: dict[str, Any], end: str) -> None:
    """A task that ended as it may gives no fault, and is counted under its end."""
    verdict = judge(_evidence(written, **changed))
    assert verdict.faults == []
    assert verdict.ends == Counter({end: 1})


@pytest.mark.parametrize(
    ("written", "changed", "kind"),
    [
        ([], {}, "lost"),
        (_enqueued() + _active(), {}, "lost"),
        (_enqueued() + _active() + DONE, {"outcomes": {}}, "improper-end"),
        (_enqueued() + GONE, {}, "improper-end"),
        (_enqueued() + _active() + GONE, {}, "improper-end"),
        (_enqueued() + _active() + _settled() + _swept(1000), {}, "improper-end"),
        (
            _clock(2000) + _enqueued() + _active() + _settled(after_ms=4000, score=NOW_MS // 1000 + 5) + _swept(5000),
            {},
            "improper-end",
        ),
        (_enqueued() + _active() + _settled() + GONE, {}, "improper-end"),
        (
            _enqueued() + _active() + _settled() + _clock(7000) + ROUND + _clock(7100) + GONE,
            {"kill_ms": [NOW_MS + 4000]},
            "improper-end",
        ),
        (_enqueued() + _active() + _settled()[:-2] + [["EXEC"]] + _swept(5000), {}, "untimed"),
        (
            _enqueued() + _active() + _settled() + _step(["HSET", f"{PREFIX}t:order-1", "state", "pending"]) + DONE,
            {},
            "live-ttl",
        ),
        (
            _enqueued() + _active() + DONE + _step(["HSET", f"{PREFIX}t:order-1", "state", "pending"]) + DONE,
            {},
            "half",
        ),
        (_enqueued() + _active() + _settled()[:-1] + [["DEL", f"{PREFIX}t:order-1"], ["EXEC"]], {}, "improper-end"),
        (_enqueued() + _active() + _settled() + _swept(5000), {"looks": [LOOK]}, "ghost"),
        (
            _enqueued() + _active() + _settled() + GONE + _rounds(13),
            {"kill_ms": [NOW_MS + 4000], "looks": [LATE_LOOK]},
            "ghost",
        ),
        (_enqueued() + _active() + _settled() + _swept(5000), {"operations": [FAILED]}, "script-error"),
        (_enqueued() + _active() + DONE, {"refusals": ["ERR @user_script: 1: nil"]}, "script-error"),
        (
            _enqueued() + _active() + DONE,
            {"over": [census.Census(QUEUE, {}, {"pending": ["order-9"]})]},
            "stuck",
        ),
        (
            _enqueued() + _active() + _settled(),
            {
                "over": [
                    census.Census(QUEUE, {"order-1": census.Task("completed", True, 1)}, {"completed": ["order-1"]})
                ]
            },
            "overdue",
        ),
        (BRIEF + BRIEF_DONE, BRIEF_ACCEPTED, "improper-end"),
        (_enqueued() + _active() + _settled() + HELD + _swept(5000), {"held": {"order-1"}}, "improper-end"),
        (_enqueued() + _active() + _settled() + HELD + _swept(5000), {"held": {"order-1"}}, "not held"),
        (_enqueued() + _active() + _settled() + _step(HOLD), {"over": KEPT_HELD}, "held-ttl"),
        (_enqueued() + _active() + _settled() + _swept(5000), {"looks": [LONG_LOOK]}, "overtimed"),
        (REDO + _swept(5000, task_id="redo-1"), REDO_ENDED, "lost"),
        (REDO + _step(_replaced("redo-1")[1]), REDO_ENDED, "lost"),
        (_enqueued() + _active() + _settled() + _replaced("order-1") + _swept(5000), {}, "improper-end"),
        (_enqueued("redo-1") + _active("redo-1") + _replaced("redo-1"), REDO_ENDED, "improper-end"),
        (REDO + _step(_hold("redo-1")) + _replaced("redo-1"), REDO_ENDED, "improper-end"),
    ],
    ids=[
        "never written",
        "still active",
        "no attempt ended well",
        "deleted while pending",
        "deleted while active",
        "swept too early",
        "swept too early, by a score from before it was active",
        "expired although nothing was killed",
        "expired although somebody swept",
        "completed without a TTL",
        "run again with a TTL",
        "a state without a message",
        "deleted by a rule that keeps it",
        "a ghost of a task that was swept",
        "a ghost that no sweeper has found",
        "a script failed without a ghost",
        "a script failed when a task was enqueued",
        "something is still pending",
        "something is still there when its time is over",
        "gone at once although a rule keeps it",
        "swept although it is held",
        "no longer held",
        "held with a TTL",
        "a task that was not released and lives too long",
        "not there, though a client was told that it replaces a task",
        "put aside and not replaced",
        "replaced although its rule keeps it",
        "replaced while it was active",
        "replaced although it was held",
    ],
)
def test_the_verdict_finds_what_must_not_be(written: list[Commands], changed: dict[str, Any], kind: str) -> None:
    """Each improper end and state is found."""
    assert kind in {fault.kind for fault in judge(_evidence(written, **changed)).faults}
