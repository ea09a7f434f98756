"""In shadow mode all is looked at, and nothing is changed."""

from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from asynq_ttl.events import Adopted, Swept
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import Adopt, Keep, Mode, Policy, Retention, Rule
from asynq_ttl.sweep.adopter import Adopter
from asynq_ttl.sweep.connections import Connections
from asynq_ttl.sweep.failures import Failures
from asynq_ttl.sweep.onlooker import Onlooker
from asynq_ttl.sweep.part import WHOLE, Part
from asynq_ttl.sweep.schedule import PAGE_SIZE, Schedule
from asynq_ttl.upstream.endpoint import Endpoint
from support.scripted_redis import Answer, ScriptedServer

RULE = Rule("day", queues=(compile_glob("m*"),), archived=Retention(Keep.TTL, 86_400))


class Deaf:
    """Somebody who does not mind."""

    def swept(self, page: Swept) -> None:
        """Pass over a page."""

    def adopted(self, tasks: Adopted) -> None:
        """Pass over tasks."""

    def repaired(self, queue: str, persisted: int, dropped: int) -> None:
        """Pass over a repair."""

    def sweep_ended(self, seconds: float, error: str, refusals: int = 0) -> None:
        """Pass over a round."""


class Moving(Part):
    """A part that has no queue before it has been found out which it has."""

    def __init__(self) -> None:
        self.refreshed = 0

    async def refresh(self, client: Redis) -> None:
        """Find out."""
        self.refreshed += 1

    def has(self, queue: str) -> bool:
        """Say whether it has found out."""
        return self.refreshed > 0


def scene(policy: Policy, part: Part = WHOLE, **scripts: Answer) -> tuple[Onlooker, ScriptedServer]:
    """Return an onlooker, and what it talks to."""
    server = ScriptedServer({0: {b"mail", b"sms"}}, **scripts)
    connections, failures = Connections(cast("Endpoint", server)), Failures()
    reach = Reach(policy, set())
    adopter = Adopter(connections, lambda: reach, Schedule(5), failures, Deaf(), began=0)
    return Onlooker(connections, lambda: reach, {0}, adopter, failures, part=part, interval_seconds=5), server


async def test_the_queues_that_the_policy_is_about_are_looked_at() -> None:
    """Large indexes page by page, over several rounds; nothing that changes anything is run, and no lock is taken."""
    onlooker, server = scene(Policy((RULE,), mode=Mode.SHADOW), adopt=lambda _keys, _args: [b"", PAGE_SIZE, PAGE_SIZE])
    for _ in range(2):
        await onlooker.look()
    assert {key for asked in server.asked for key in asked.keys if b"sms" in key} == set()
    assert set(server.names()) == {"survey", "newest", "adopt"}
    firsts = [asked.args[3] for asked in server.asked if asked.script == "adopt" and asked.args[1] == "archived"]
    assert firsts == [PAGE_SIZE * number for number in range(len(firsts))]
    assert len(firsts) > 2


async def test_which_queues_its_part_has_it_finds_out_in_each_round() -> None:
    """Nobody else does where nothing is swept; without it a master's queues would be nobody's."""
    part = Moving()
    onlooker, server = scene(Policy((RULE,), mode=Mode.SHADOW), part)
    for _ in range(2):
        await onlooker.look()
    assert part.refreshed == 2
    assert "survey" in server.names()


async def test_a_refusal_does_not_stop_the_rest() -> None:
    """The next page follows in the next round."""

    def adopt(_keys: list[bytes], _args: list[Any]) -> list[Any]:
        raise ResponseError("WRONGTYPE")

    onlooker, server = scene(Policy((RULE,), mode=Mode.SHADOW), adopt=adopt)
    for _ in range(2):
        await onlooker.look()
    assert server.names().count("adopt") == 2


async def test_where_something_is_enforced_or_nothing_adopted_it_does_not_look() -> None:
    """The sweeper does, or nobody."""
    for policy in (
        Policy((RULE,)),
        Policy((RULE,), mode=Mode.OFF),
        Policy((RULE,), mode=Mode.SHADOW, adopt=Adopt.OFF),
    ):
        onlooker, server = scene(policy)
        await onlooker.look()
        assert server.asked == []
