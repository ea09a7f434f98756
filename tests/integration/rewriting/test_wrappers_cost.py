"""What wrappers ask Redis beyond what their originals ask."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis

from asynq_ttl.policy.rules import Rule
from support.policy_calls import NOW, for_seconds, policy_of
from support.wrapped import (
    BUILD,
    PREFIX,
    QUEUE,
    archive,
    ask,
    complete,
    ghost,
    learnt,
    look,
    populate,
    send,
    wrapped,
)

ALL_HOUR = policy_of(Rule("all", archived=for_seconds(3600), completed=for_seconds(3600)))
SETS_A_TTL = {"pexpire": 1}
TRIMS_NOTHING = {"zcount": 1, "zrange": 1}


def asked(client: redis.Redis, do: Callable[[], object]) -> Counter[str]:
    """Return which commands something makes Redis execute, and how often."""
    client.config_resetstat()
    assert "error" not in str(do())
    told: Any = client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): each["calls"] for name, each in told.items()})


@pytest.mark.parametrize("version", ["v0.19.0", "v0.26.0"])
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("markAsCompleteCmd", SETS_A_TTL),
        ("archiveCmd", {**SETS_A_TTL, **TRIMS_NOTHING}),
        ("archiveTaskCmd", {**SETS_A_TTL, **TRIMS_NOTHING, "hget": 1, "hexists": 1}),
        ("archiveAllCmd", {**TRIMS_NOTHING, "pexpire": 2, "hexists": 2, "zrange": 2}),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_what_a_wrapper_asks_redis(
    client: redis.Redis, version: str, name: str, more: dict[str, int], *, known: bool
) -> None:
    """Where the clocks agree, no time is asked for; and no state, as a success of these scripts says it."""
    now = int(time.time())
    calls = {
        "markAsCompleteCmd": complete(now=now),
        "archiveCmd": archive(now=now),
        "archiveTaskCmd": BUILD.archive_one("p1", now),
        "archiveAllCmd": BUILD.archive_all("scheduled", now),
    }
    script = learnt(version, name)
    plain = asked(client, lambda: ask(client, script.text, calls[name]))
    client.flushall()
    populate(client)
    for index in ("archived", "completed"):
        client.delete(QUEUE + index)
    if known:
        script.clock.note(now + 0.9, 0.0, 0.0, float)
    ours = asked(client, lambda: send(client, script, calls[name], ALL_HOUR))
    if name == "markAsCompleteCmd" and version == "v0.19.0":
        more = {**more, "zscore": 1}
    ours.subtract(plain)
    if version == "v0.26.0" and name == "archiveCmd":
        ours.update({"zrem": 1, "del": 2})  # what the original has trimmed
    assert {name: count for name, count in ours.items() if count} == more | ({} if known else {"time": 1})


@pytest.mark.parametrize("known", [True, False])
def test_a_ghost_in_the_way_costs_no_lease(client: redis.Redis, *, known: bool) -> None:
    """The script that was refused runs again: nothing of the first run is left, and counters count once (H4)."""
    now = int(time.time())
    ghost(client, "a1", "completed", now - 5)
    script = learnt("v0.26.0", "markAsCompleteCmd")
    if known:
        script.clock.note(now + 0.9, 0.0, 0.0, float)
    ours = look(client, *send(client, script, complete(now=now), ALL_HOUR))
    assert ours.reply == b"OK"
    assert ours.tasks("active") == ["a2"]
    assert ours.tasks("lease") == ["a2"]
    assert ours.values[f"{QUEUE}processed"] == b"1"
    assert (b"a1", float(now + 3600)) in ours.values[f"{QUEUE}completed"]
    assert ours.with_ttl() == {"a1"}


def test_a_completed_task_in_the_way_is_no_ghost(client: redis.Redis) -> None:
    """An ID that is active, and whose hash is completed, is left as Asynq leaves it."""
    client.zadd(f"{QUEUE}completed", {"a1": NOW})
    client.hset(f"{PREFIX}a1", "state", "completed")
    ours = wrapped(client, "v0.26.0", "markAsCompleteCmd", ALL_HOUR)
    assert "INTERNAL" in str(ours.reply)
    assert "a1" in ours.tasks("completed")
    assert ours.with_ttl() == set()
