from typing import Any, cast

import pytest
from redis.exceptions import ResponseError

from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import Keep, Mode, Policy, Retention, Rule, State
from asynq_ttl.sweep.connections import Connections
from asynq_ttl.sweep.failures import Failures
from asynq_ttl.sweep.part import WHOLE, Part
from asynq_ttl.sweep.schedule import Index, Schedule
from asynq_ttl.sweep.survey import BATCH, PLACES, SMALL, Queue
from asynq_ttl.sweep.surveyor import Surveyor
from asynq_ttl.upstream.endpoint import Endpoint
from support.scripted_redis import ScriptedServer

DAY = 86_400
POLICY = Policy((Rule("day", archived=Retention(Keep.TTL, DAY)),), grace_seconds=60)


def scene(queues: dict[int, Any], reach: Reach, **scripts: Any) -> tuple[Surveyor, ScriptedServer]:
    """Return a surveyor of some databases, and what it talks to."""
    server = ScriptedServer(queues, **scripts)
    connections = Connections(cast("Endpoint", server))
    return Surveyor(connections, lambda: reach, set(queues), Schedule(5), Failures(), part=Part()), server


async def test_many_queues_are_surveyed_in_one_script() -> None:
    """With a key of each, the grace, how far back is looked, and the retentions that they share."""
    names = {f"q{number:03}".encode() for number in range(BATCH + 1)}
    surveyor, server = scene({0: names}, Reach(POLICY, set()))
    await surveyor.survey()
    first, second = server.asked
    assert len(first.keys) == BATCH
    assert second.keys == [b"asynq:{q100}:completed"]
    assert first.args == [SMALL, 60_000, 65, DAY]
    await surveyor.survey()
    assert len(server.asked) == 2


async def test_only_queues_that_hold_ended_tasks_are_remembered_as_swept() -> None:
    """A name without keys takes no room in the memory."""
    reach = Reach(POLICY, set())
    here = [0, 0, None, 1, 0, None, *[0, 0, None] * 3]

    def survey(keys: list[bytes], _args: list[Any]) -> list[Any]:
        return [part for key in keys for part in (here if b"{mail}" in key else [0, 0, None] * 5)]

    surveyor, _ = scene({0: {b"mail", b"bogus"}}, reach, survey=survey)
    await surveyor.survey()
    assert reach.enforced == {"mail"}


async def test_large_indexes_are_those_that_no_survey_looks_through() -> None:
    """Of the terminal states only; each with how many members it has."""
    counts = [SMALL + 1, SMALL, SMALL + 1, SMALL + 1, SMALL + 1]
    answer = [part for count in counts for part in (count, 0, None)]
    surveyor, _ = scene({0: {b"mail"}}, Reach(POLICY, set()), survey=lambda _keys, _args: answer)
    await surveyor.survey()
    assert surveyor.large_indexes() == {Index(0, "mail", State.COMPLETED): SMALL + 1}


async def test_digests_of_tasks_without_a_ttl_come_after_the_places_of_all_queues() -> None:
    """By the number of the place."""
    surveyor, _ = scene(
        {0: {b"mail", b"sms"}},
        Reach(POLICY, set()),
        survey=lambda keys, _args: [*[1, 0, None] * len(PLACES) * len(keys), 1, b"one", 5, b"two"],
    )
    await surveyor.survey()
    assert surveyor.known.untimed() == [
        (Queue(0, "mail"), "archived", "one"),
        (Queue(0, "sms"), "completed", "two"),
    ]


async def test_other_queues_can_be_wanted_than_those_with_ttls_of_ours() -> None:
    """Those with ambiguous names never are."""
    _, server = scene({0: {b"mail", b"sms", b"a}:b"}}, Reach(POLICY, set()))
    connections = Connections(cast("Endpoint", server))
    reach = Reach(Policy((), mode=Mode.SHADOW), set())
    wanted = lambda name: name != "sms"  # noqa: E731
    surveyor = Surveyor(connections, lambda: reach, {0}, Schedule(5), Failures(), part=WHOLE, wanted=wanted)
    await surveyor.survey()
    assert [asked.keys[0] for asked in server.asked] == [b"asynq:{mail}:completed"]


@pytest.mark.parametrize(("few", "seen"), [(2, {"a", "b", "c"}), (1, {"a", "b"})])
async def test_a_new_queue_among_few_is_surveyed_in_the_next_round(
    monkeypatch: pytest.MonkeyPatch, few: int, seen: set[str]
) -> None:
    """Many are listed anew once in a pass."""
    monkeypatch.setattr("asynq_ttl.sweep.surveyor.FEW", few)
    names = {b"a", b"b"}
    surveyor, _ = scene({0: names}, Reach(POLICY, set()))
    await surveyor.survey()
    names.add(b"c")
    await surveyor.survey()
    assert surveyor.known.names(0) == seen


async def test_where_the_list_of_queues_is_refused_those_known_are_surveyed_all_the_same() -> None:
    """A key of another type in the list's place hides no queue that this process has enforced a policy for."""
    surveyor, server = scene({0: ResponseError("WRONGTYPE")}, Reach(POLICY, {"mail"}))
    await surveyor.survey()
    assert [asked.keys[0] for asked in server.asked] == [b"asynq:{mail}:completed"]


async def test_beside_the_holder_of_the_lock_only_what_is_not_listed_is_surveyed() -> None:
    """Where this process knows of nothing, Redis is not even asked."""
    surveyor, server = scene({0: {b"mail", b"sms"}}, Reach(POLICY, {"mail", "unlisted"}))
    await surveyor.survey(unlisted_only=True)
    assert [asked.keys[0] for asked in server.asked] == [b"asynq:{unlisted}:completed"]
    await surveyor.survey()
    assert len(server.asked[-1].keys) == 3
    surveyor, server = scene({0: ResponseError("nobody asks")}, Reach(POLICY, set()))
    await surveyor.survey(unlisted_only=True)
    assert server.asked == []


class Half(Part):
    """A part with one of two queues; which one, a test sets."""

    batch = 1

    def __init__(self, queue: str) -> None:
        self.queue = queue

    def become(self, queue: str) -> None:
        """Have another queue."""
        self.queue, self.changes = queue, self.changes + 1

    def has(self, queue: str) -> bool:
        """Say whether it has a queue."""
        return queue == self.queue


async def test_only_the_queues_of_the_part_are_surveyed() -> None:
    """One by one; where something else belongs to it, they are listed anew at once."""
    server = ScriptedServer({0: {b"a", b"b"}})
    part = Half("a")
    connections = Connections(cast("Endpoint", server))
    surveyor = Surveyor(connections, lambda: Reach(POLICY, set()), {0}, Schedule(5), Failures(), part=part)
    await surveyor.survey()
    part.become("b")
    await surveyor.survey()
    assert [asked.keys[0] for asked in server.asked] == [b"asynq:{a}:completed", b"asynq:{b}:completed"]
    assert surveyor.known.names(0) == {"b"}


async def test_held_tasks_come_after_the_places_too() -> None:
    """By a number far below theirs."""
    surveyor, _ = scene(
        {0: {b"mail", b"sms"}},
        Reach(POLICY, set()),
        survey=lambda keys, _args: [
            *[1, 0, None] * len(PLACES) * len(keys),
            -1_000_000,
            b"2",
            1,
            b"one",
            -999_994,
            b"3",
        ],
    )
    await surveyor.survey()
    assert surveyor.held() == 5
    assert [place for _, place, _ in surveyor.known.untimed()] == ["archived"]
