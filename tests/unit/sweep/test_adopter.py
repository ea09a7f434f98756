"""Where the adopter looks, what it asks, and what it tells."""

from typing import Any, cast

import pytest
from redis.exceptions import ResponseError

from asynq_ttl.events import Adopted, Swept
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import Adopt, Keep, Mode, Policy, Retention, Rule, State
from asynq_ttl.sweep.adopter import NOTHING, Adopter, Seen
from asynq_ttl.sweep.connections import Connections
from asynq_ttl.sweep.failures import Failures
from asynq_ttl.sweep.schedule import PAGE_SIZE, Index, Schedule
from asynq_ttl.sweep.survey import BATCH, PLACES, Queue, Survey
from asynq_ttl.upstream.endpoint import Endpoint
from support.scripted_redis import Answer, Asked, ScriptedServer

DAY = 86_400
BEGAN = 1_700_000_000
RULES = (Rule("day", archived=Retention(Keep.TTL, DAY), completed=Retention(Keep.FOREVER)),)
MAIL = Index(0, "mail", State.ARCHIVED)
FIRST = "rank", 0, PAGE_SIZE - 1, "", ""


class Told:
    """Somebody who remembers what was adopted."""

    def __init__(self) -> None:
        self.adoptions: list[Adopted] = []

    def swept(self, page: Swept) -> None:
        """Pass over a page."""

    def adopted(self, tasks: Adopted) -> None:
        """Take note of tasks."""
        self.adoptions.append(tasks)

    def repaired(self, queue: str, persisted: int, dropped: int) -> None:
        """Pass over a repair."""

    def sweep_ended(self, seconds: float, error: str, refusals: int = 0) -> None:
        """Pass over a round."""


class Scene:
    """An adopter before a Redis that is not there."""

    def __init__(self, policy: Policy | None = None, batch: int = BATCH, **scripts: Answer) -> None:
        self.server = ScriptedServer({0: set(), 3: set()}, **scripts)
        self.reach = Reach(policy or Policy(RULES, grace_seconds=60), set())
        self.told = Told()
        self.failures = Failures()
        self.adopter = Adopter(
            Connections(cast("Endpoint", self.server)),
            lambda: self.reach,
            Schedule(5),
            self.failures,
            self.told,
            began=BEGAN + 0.9,
            batch=batch,
        )

    def asked(self, script: str) -> list[Asked]:
        """Return what one script was asked."""
        return [asked for asked in self.server.asked if asked.script == script]


def known(*queues: Queue, untimed: dict[str, str] | None = None) -> Survey:
    """Return what the survey knows of queues with one member everywhere."""
    survey = Survey()
    for database in {queue.database for queue in queues}:
        survey.listed(database, [queue.name for queue in queues if queue.database == database], 0, 10)
    for queue in queues:
        survey.surveyed(queue, [1, 0, None] * len(PLACES), 0, 10, untimed or {})
    return survey


def rows(*parts: Any, digest: bytes = b"digest", members: int = 1, looked: int = 1) -> Answer:
    """Return a script that adopts the same tasks each time."""
    return lambda _keys, _args: [digest, members, looked, *parts]


ONE = (b"one", 1, DAY + 60, 0, 0)


async def test_a_page_is_asked_for_with_all_that_decides() -> None:
    """The page, since when tasks must have ended, for how long what is due lives on, and the rules."""
    here = Scene()
    assert await here.adopter.page(MAIL, FIRST) == Seen(0, due=False)
    (asked,) = here.asked("adopt")
    assert asked.keys == [b"asynq:{mail}:archived"]
    rules = b'{"rules":[{"types":[],"seconds":86400}],"grace":60,"share":10000}'
    assert asked.args == [b"asynq:{mail}:t:", "archived", *FIRST, BEGAN, 60_000, "1", "", rules]


async def test_all_tasks_are_adopted_where_the_policy_says_so() -> None:
    """However long ago they ended. With `off`, or where all is kept for ever, nothing is asked."""
    here = Scene(Policy(RULES, adopt=Adopt.ALL))
    await here.adopter.page(MAIL, FIRST)
    assert here.asked("adopt")[0].args[7] == 0
    assert await here.adopter.page(MAIL._replace(state=State.COMPLETED), FIRST) == NOTHING
    off = Scene(Policy(RULES, adopt=Adopt.OFF))
    assert await off.adopter.page(MAIL, FIRST) == NOTHING
    assert len(here.asked("adopt")) == 1
    assert off.asked("adopt") == []


async def test_what_was_adopted_is_told_by_rule() -> None:
    """With all IDs, the longest time, and of how many nobody knows when they ended."""
    here = Scene(adopt=rows(*ONE, b"two", 1, 50, 1, 1, b"three", 0, 70, 0, 0))
    assert await here.adopter.page(MAIL, FIRST) == Seen(1, due=True)
    first, second = here.told.adoptions
    assert (first.rule, first.ids, first.ttl_seconds, first.undated) == ("day", ("one", "two"), DAY + 60, 1)
    assert (second.rule, second.ids, second.enforced) == ("asynq", ("three",), True)
    assert (first.database, first.queue, first.state) == (0, "mail", State.ARCHIVED)
    assert first.start_ns <= first.end_ns


async def test_in_shadow_mode_nothing_is_changed_and_each_task_is_told_of_once() -> None:
    """And nothing is due by it."""
    here = Scene(Policy(RULES, mode=Mode.SHADOW), adopt=rows(b"one", 1, 50, 0, 1))
    for _ in range(2):
        assert await here.adopter.page(MAIL, FIRST) == Seen(1, due=False)
    assert here.asked("adopt")[0].args[9] == ""
    assert [(told.ids, told.enforced) for told in here.told.adoptions] == [(("one",), False)]


async def test_a_page_whose_messages_are_too_many_bytes_is_looked_at_in_parts() -> None:
    """By rank and by score. The digest that is remembered is that of the whole page."""
    answers = iter([[b"whole", 9, 4], [b"rest", 5, 5], [b"x", 9, 4], [b"x", 5, 5], [b"x", 9, 9]])
    here = Scene(adopt=lambda _keys, _args: next(answers))
    assert await here.adopter.page(MAIL, FIRST) == Seen(9, due=False)
    await here.adopter.page(MAIL, ("score", "(1", "9", 20, 500))
    await here.adopter.page(MAIL, FIRST)
    pages = [asked.args[2:7] for asked in here.asked("adopt")]
    assert pages[:2] == [list(FIRST), ["rank", 4, PAGE_SIZE - 1, "", ""]]
    assert pages[2:4] == [["score", "(1", "9", 20, 500], ["score", "(1", "9", 24, 496]]
    assert [asked.args[10] for asked in here.asked("adopt")] == ["", "", "", "", "whole"]


async def test_archives_are_looked_at_in_which_something_has_died() -> None:
    """Many queues in one script, and of those that have something new each page; the next time from then on."""
    here = Scene(newest=lambda _keys, _args: [b"(7", b"9", 0, PAGE_SIZE + 1], adopt=rows(*ONE))
    queues = [Queue(0, "idle"), Queue(0, "mail")]
    assert await here.adopter.look(known(*queues)) == []
    (asked,) = here.asked("newest")
    assert len(asked.keys) == 2
    assert asked.args == [63, 60]
    assert {key for asked in here.asked("adopt") for key in asked.keys} == {asked.keys[1]}
    assert [asked.args[2:7] for asked in here.asked("adopt")] == [
        ["score", "(7", "9", offset, PAGE_SIZE] for offset in (0, PAGE_SIZE)
    ]
    await here.adopter.look(known(*queues))
    assert here.asked("newest")[1].args == [3, 60]


async def test_pages_on_which_a_task_is_due_are_returned() -> None:
    """Whoever sweeps looks at them at once."""
    here = Scene(newest=lambda _keys, _args: [b"(7", b"9", 1], adopt=rows(b"one", 1, 50, 0, 1))
    found = await here.adopter.look(known(Queue(0, "mail"), untimed={"archived": "a"}))
    assert found == [(MAIL, ("score", "(7", "9", 0, PAGE_SIZE)), (MAIL, FIRST)]


async def test_a_small_index_is_looked_at_again_only_when_it_has_changed() -> None:
    """What is kept for ever in a queue that rests costs nothing more. Another policy is a reason to look, too."""
    here = Scene()
    for digest in ("a", "a", "b", "b"):
        await here.adopter.look(known(Queue(0, "mail"), untimed={"archived": digest, "completed": digest}))
    assert len(here.asked("adopt")) == 2
    here.reach = Reach(Policy(RULES), set())
    await here.adopter.look(known(Queue(0, "mail"), untimed={"archived": "b"}))
    assert len(here.asked("adopt")) == 3


async def test_each_database_is_asked_by_itself() -> None:
    """Those in which nothing can be adopted are not."""
    here = Scene(newest=lambda keys, _args: [b"(7", b"9", *[0] * len(keys)])
    await here.adopter.look(known(Queue(0, "mail"), Queue(3, "mail")))
    assert [len(asked.keys) for asked in here.asked("newest")] == [1, 1]


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1, 1, 1]), (2, [2, 1]), (BATCH, [3])])
async def test_one_script_asks_about_no_more_archives_than_may_be(batch: int, sizes: list[int]) -> None:
    """In a cluster, where two queues are in two slots, about one."""
    here = Scene(batch=batch)
    await here.adopter.look(known(*(Queue(0, name) for name in ("mail", "news", "sms"))))
    assert [len(asked.keys) for asked in here.asked("newest")] == sizes


async def test_where_one_of_many_archives_is_refused_each_is_asked_about_by_itself() -> None:
    """As where they are on several nodes of a cluster; a refusal is kept to its archive."""

    def newest(keys: list[bytes], _args: list[Any]) -> list[Any]:
        if b"asynq:{b}:archived" in keys:
            raise ResponseError("NOPERM")
        return [b"(7", b"9", *[1] * len(keys)]

    here = Scene(newest=newest)
    await here.adopter.look(known(*(Queue(0, name) for name in "abc")))
    assert {bytes(asked.keys[0]) for asked in here.asked("adopt")} == {b"asynq:{a}:archived", b"asynq:{c}:archived"}
    assert here.failures.refusals == {"0": 1}


@pytest.mark.parametrize("untimed", [{}, {"archived": "a"}])
async def test_a_refusal_at_one_index_is_kept_to_it(untimed: dict[str, str]) -> None:
    """And it is looked at again in the next round."""

    def adopt(_keys: list[bytes], _args: list[Any]) -> list[Any]:
        raise ResponseError("WRONGTYPE")

    here = Scene(newest=lambda _keys, _args: [b"(7", b"9", int(not untimed)], adopt=adopt)
    for _ in range(2):
        assert await here.adopter.look(known(Queue(0, "mail"), untimed=untimed)) == []
    assert here.failures.refusals == {"0": 2}
