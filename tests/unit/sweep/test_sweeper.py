import asyncio
import time
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from asynq_ttl.events import Adopted, Swept
from asynq_ttl.policy.archive_limits import HandoverCap
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import OWN_ARCHIVE_CAP, Adopt, Keep, Policy, Retention, Rule, State
from asynq_ttl.sweep.handover import Batch, Handover
from asynq_ttl.sweep.live_tasks import LEASE_SLACK_SECONDS
from asynq_ttl.sweep.lock import LOCK_KEY
from asynq_ttl.sweep.schedule import DUE_PAGES, PAGE_SIZE
from asynq_ttl.sweep.sweeper import Sweeper
from asynq_ttl.upstream.endpoint import Endpoint
from support.scripted_redis import SOMETHING, Asked, ScriptedServer
from support.waiting import until

DAY = 86_400
GRACE = 60
INTERVAL = 5.0


DAYLONG = Rule("day", completed=Retention(Keep.TTL, DAY), archived=Retention(Keep.TTL, DAY))


class Reached(Reach):
    """What is in force: a policy that keeps tasks for a day, about every queue but those of others."""

    def __init__(self) -> None:
        super().__init__(Policy((DAYLONG,), grace_seconds=GRACE), set())
        self.others: frozenset[str] = frozenset()
        self.active = True

    @property
    def sweeps(self) -> bool:
        """Whether there is anything to sweep."""
        return self.active

    @property
    def coverage(self) -> str:
        """A name."""
        return "coverage"

    def heals(self, queue: str) -> bool:
        """Say whether a queue is one of ours."""
        return queue not in self.others


class Told:
    """Somebody who remembers what was told."""

    def __init__(self) -> None:
        self.pages: list[Swept] = []
        self.repairs: list[tuple[str, int, int]] = []
        self.rounds: list[str] = []
        self.adoptions: list[Adopted] = []
        self.refusals: list[int] = []

    def swept(self, page: Swept) -> None:
        """Take note of a page."""
        self.pages.append(page)

    def adopted(self, tasks: Adopted) -> None:
        """Take note of adopted tasks."""
        self.adoptions.append(tasks)

    def repaired(self, queue: str, persisted: int, dropped: int) -> None:
        """Take note of a repair."""
        self.repairs.append((queue, persisted, dropped))

    def sweep_ended(self, seconds: float, error: str, refusals: int = 0) -> None:
        """Take note of a round."""
        assert seconds >= 0
        self.refusals.append(refusals)
        self.rounds.append(error)


class Scene:
    """A sweeper before a Redis that is not there."""

    def __init__(self, server: ScriptedServer, handover: Handover | None = None, interval: float = INTERVAL) -> None:
        self.server = server
        self.reach = Reached()
        self.told = Told()
        self.databases = set(server.databases)
        self.sweeper = Sweeper(
            cast("Endpoint", server),
            lambda: self.reach,
            self.databases,
            self.told,
            interval_seconds=interval,
            handover=handover,
        )

    def asked(self, script: str) -> list[Asked]:
        """Return what one script was asked."""
        return [asked for asked in self.server.asked if asked.script == script]


def by_score(asked: list[Asked]) -> list[Asked]:
    """Return the pages that were looked at because due tasks can be there."""
    return [page for page in asked if page.args[3] == "score"]


def scene(**scripts: Any) -> Scene:
    """Return a sweeper of one queue, `mail`."""
    return Scene(ScriptedServer({0: {b"mail"}}, **scripts))


def answers(*pages: list[Any]) -> Any:
    """Return a script that answers with some pages, then with empty ones."""
    rest = iter(pages)
    return lambda _keys, _args: next(rest, [0, 0, 0, [], [], 0])


def page(
    *due: bytes, examined: int = 10, ghosts: int = 0, missing: tuple[bytes, ...] = (), untimed: int = 0
) -> list[Any]:
    """Return what the script `sweep` answers about a page."""
    return [examined, len(due), ghosts, list(due), list(missing), untimed]


# --- a round ----------------------------------------------------------------------------------------------------------


async def test_a_round_removes_what_is_due_before_it_looks_at_anything_else() -> None:
    """First it asks where that can be. Then come what is odd or new, the patrol, and the tasks that wait."""
    here = scene()
    await here.sweeper.sweep()
    names = ["survey", *["sweep"] * 2, "sweep_active", "newest", *["sweep"] * 2, *["sweep_waiting"] * 2]
    assert here.server.names() == names
    assert [asked.args[3] for asked in here.asked("sweep")] == ["score", "score", "rank", "rank"]
    assert {asked.keys[0] for asked in here.asked("sweep")} == {b"asynq:{mail}:completed", b"asynq:{mail}:archived"}


async def test_where_a_survey_finds_nothing_only_one_script_a_round_asks_what_is_new() -> None:
    """And a queue that rests is not surveyed in every round. Where nothing is adopted, nothing is asked."""
    here = scene(survey=lambda keys, _args: [0, 0, None] * 5 * len(keys))
    for _ in range(3):
        await here.sweeper.sweep()
    assert here.server.names() == ["survey", "newest", "newest", "newest"]
    here = scene(survey=lambda keys, _args: [0, 0, None] * 5 * len(keys))
    here.reach.policy = Policy((DAYLONG,), grace_seconds=GRACE, adopt=Adopt.OFF)
    await here.sweeper.sweep()
    assert here.server.names() == ["survey"]


async def test_what_is_odd_is_looked_at_once() -> None:
    """Unless Redis refuses that: then in every round."""
    odd = [0, 0, None, 5, 1, None, *[0, 0, None] * 3]
    here = scene(survey=lambda keys, _args: odd * len(keys))
    for _ in range(3):
        await here.sweeper.sweep()
    assert [name for name in here.server.names() if name != "newest"] == ["survey", "sweep"]

    def refuse(_keys: list[bytes], _args: list[Any]) -> list[Any]:
        raise ResponseError("WRONGTYPE")

    here = scene(survey=lambda keys, _args: odd * len(keys), sweep=refuse)
    for _ in range(3):
        await here.sweeper.sweep()
    assert [name for name in here.server.names() if name != "newest"] == ["survey", "sweep", "sweep", "sweep"]


async def test_a_page_is_asked_for_with_all_that_says_what_is_due() -> None:
    """The grace, the page, how soon a key has to expire to be due in any case, and the retentions of an archive."""
    here = scene()
    await here.sweeper.sweep()
    completed, archived = by_score(here.asked("sweep"))
    now = 1_700_000_000
    margins = [6_250, 60_000]
    window = ["-inf", str(now + GRACE), 0, PAGE_SIZE]
    assert completed.args == [b"asynq:{mail}:t:", "completed", 60_000, "score", *window, "", *margins]
    window = [str(now - DAY - GRACE - 5), str(now - DAY + GRACE), 0, PAGE_SIZE]
    assert archived.args == [b"asynq:{mail}:t:", "archived", 60_000, "score", *window, "", *margins, DAY]


async def test_what_a_page_has_removed_is_told() -> None:
    """With the IDs of what was due; a page on which there was nothing to do is not told of."""
    here = scene(sweep=answers(page(b"one", b"two\xff", ghosts=3), page()))
    before = time.time_ns()
    await here.sweeper.sweep()
    (told,) = here.told.pages
    assert (told.database, told.queue, told.state) == (0, "mail", State.COMPLETED)
    assert (told.examined, told.due, told.ghosts) == (10, ("one", "two\udcff"), 3)
    assert before <= told.start_ns <= told.end_ns <= time.time_ns()


async def test_full_pages_are_followed_by_the_next_one() -> None:
    """It starts behind what was kept of them."""
    here = scene(sweep=answers(page(b"one", examined=PAGE_SIZE, ghosts=2), page()))
    await here.sweeper.sweep()
    first, second, _ = by_score(here.asked("sweep"))
    assert first.args[6] == 0
    assert second.args[6] == PAGE_SIZE - 3


async def test_a_round_is_bounded_and_says_that_it_is_behind() -> None:
    """What is left the next round takes up; only the sidecar that sweeps can be behind."""
    here = scene(sweep=lambda _keys, args: page(examined=PAGE_SIZE if args[3] == "score" else 0, ghosts=PAGE_SIZE))
    for _ in range(2):
        await here.sweeper.sweep()
        assert len(by_score(here.asked("sweep"))) == DUE_PAGES
        here.server.asked.clear()
    assert not here.sweeper.behind
    running = asyncio.create_task(here.sweeper.run())
    await until(lambda: here.told.rounds)
    assert here.sweeper.leads
    assert here.sweeper.behind
    await end(running)


async def test_the_patrol_goes_on_where_it_stopped() -> None:
    """In the next round, and behind what it has kept."""

    def sweep(keys: list[bytes], args: list[Any]) -> list[Any]:
        full = args[3] == "rank" and keys[0].endswith(b"archived")
        return page(examined=PAGE_SIZE if full else 0, ghosts=1 if full else 0)

    here = scene(sweep=sweep)
    rounds = []
    for _ in range(2):
        await here.sweeper.sweep()
        pages = [asked for asked in here.asked("sweep") if asked.args[3] == "rank" and b"archived" in asked.keys[0]]
        rounds.append([asked.args[4] for asked in pages])
        here.server.asked.clear()
    kept = PAGE_SIZE - 1
    assert rounds[0] + rounds[1] == [kept * number for number in range(len(rounds[0]) + len(rounds[1]))]
    assert min(map(len, rounds)) > 2


async def test_large_indexes_make_the_patrol_quicker() -> None:
    """The survey tells how many members each has."""

    async def pages(size: int) -> int:
        here = scene(
            survey=lambda _keys, _args: [0, 0, None, size, 0, None, *[0, 0, None] * 3],
            sweep=lambda _keys, _args: page(examined=PAGE_SIZE),
        )
        await here.sweeper.sweep()
        return len(here.asked("sweep"))

    assert await pages(1_000_000) > 10 * await pages(1_000)


async def test_a_page_of_the_patrol_with_untimed_tasks_is_adopted() -> None:
    """And swept once more if one of them is due already. Where nothing is enforced, it is only looked at."""
    row = [b"one", 1, 60, 0, 1]

    def sweep(_keys: list[bytes], args: list[Any]) -> list[Any]:
        return page(untimed=int(args[3] == "rank"))

    here = scene(sweep=sweep, adopt=lambda _keys, args: [b"digest", 1, 1, *(row if args[1] == "archived" else [])])
    await here.sweeper.sweep()
    patrol = [name for name in here.server.names() if name in ("sweep", "adopt")][2:]
    assert sorted(patrol) == ["adopt", "adopt", "sweep", "sweep", "sweep"]
    assert [(told.rule, told.ids, told.state) for told in here.told.adoptions] == [("day", ("one",), State.ARCHIVED)]
    here = scene(sweep=sweep)
    here.reach.enforcing = False
    await here.sweeper.sweep()
    assert {asked.args[9] for asked in here.asked("adopt")} == {""}


async def test_what_died_of_late_is_adopted_and_what_is_due_of_it_swept() -> None:
    """In the same round, in the range of scores in which it is."""

    def adopt(_keys: list[bytes], args: list[Any]) -> list[Any]:
        return [b"digest", 1, 1, b"one", 1, 60, 0, 1] if args[2] == "score" else [b"digest", 0, 0]

    here = scene(newest=lambda _keys, _args: [b"(7", b"9", 1], adopt=adopt)
    await here.sweeper.sweep()
    window = ["score", "(7", "9", 0, PAGE_SIZE]
    assert window in [asked.args[3:8] for asked in here.asked("sweep")]


async def test_an_entry_without_a_hash_is_dropped_if_there_is_none_a_moment_later() -> None:
    """Somebody may be putting the task there in two steps."""
    here = scene(sweep=answers(page(missing=(b"a", b"b"))), sweep_ghosts=lambda _keys, args: len(args) - 2)
    await here.sweeper.sweep()
    (second,) = here.asked("sweep_ghosts")
    assert second == Asked("sweep_ghosts", [b"asynq:{mail}:completed"], [b"asynq:{mail}:t:", b"a", b"b"])
    assert [told.ghosts for told in here.told.pages] == [1]


async def test_repairs_of_live_tasks_are_told() -> None:
    """Of active ones and of those that wait; where nothing was repaired nothing is told."""
    here = scene(
        sweep_active=lambda _keys, _args: [9, 2, 1],
        sweep_waiting=lambda keys, _args: [9, 4 if keys[0].endswith(b"retry") else 0],
    )
    await here.sweeper.sweep()
    assert sorted(here.told.repairs) == [("mail", 2, 1), ("mail", 4, 0)]
    (active,) = here.asked("sweep_active")
    assert active.keys == [b"asynq:{mail}:active", b"asynq:{mail}:lease", b"asynq:{mail}:deadlines"]
    assert active.args[:2] == [b"asynq:{mail}:t:", PAGE_SIZE]
    assert abs(active.args[2] - (time.time() - LEASE_SLACK_SECONDS)) < 5


async def test_the_queues_of_all_databases_are_swept_that_are_ours() -> None:
    """In the order of their numbers; a queue that the policy has nothing to do with is left alone."""
    here = Scene(ScriptedServer({4: {b"mail"}, 0: {b"sms", b"mail", b"other"}}))
    here.reach.others = frozenset({"other"})
    await here.sweeper.sweep()
    assert [asked.keys[0] for asked in by_score(here.asked("sweep"))][::2] == [
        b"asynq:{mail}:completed",
        b"asynq:{sms}:completed",
        b"asynq:{mail}:completed",
    ]


async def test_a_queue_that_is_not_listed_is_swept_if_this_process_enforced_something_for_it() -> None:
    """Without the lock too: its holder may know nothing of it. What is listed is left to the holder."""
    here = scene(take_lock=lambda _keys, _args: 0)
    here.reach.note_enforced("mail")
    here.reach.note_enforced("unlisted")
    running = asyncio.create_task(here.sweeper.run())
    await until(lambda: here.told.rounds)
    await end(running)
    assert {bytes(asked.keys[0]) for asked in here.asked("sweep_active")} == {b"asynq:{unlisted}:active"}
    assert not here.sweeper.leads


async def test_where_one_of_many_queues_is_refused_each_is_surveyed_by_itself() -> None:
    """As where the user has no right to its keys, or where they are on another node of a cluster."""

    def survey(keys: list[bytes], _args: list[Any]) -> list[Any]:
        if b"asynq:{b}:completed" in keys:
            raise ResponseError("NOPERM")
        return SOMETHING * len(keys)

    here = Scene(ScriptedServer({0: {b"a", b"b", b"c"}}, survey=survey))
    await here.sweeper.sweep()
    assert [len(asked.keys) for asked in here.asked("survey")] == [3, 1, 1, 1]
    assert {asked.keys[0] for asked in here.asked("sweep_active")} == {b"asynq:{a}:active", b"asynq:{c}:active"}


async def test_where_there_is_nothing_to_sweep_no_lock_is_held() -> None:
    """It is taken when there is something, and given back when that is gone. Rounds are told all the same."""
    found = [[0, 0, None] * 5, SOMETHING]
    here = Scene(ScriptedServer({0: {b"mail"}}, survey=lambda _keys, _args: found[0]), interval=0.1)
    running = asyncio.create_task(here.sweeper.run())
    await until(lambda: here.told.rounds)
    assert {asked.args[1] for asked in here.asked("take_lock")} == {"0"}
    assert not here.sweeper.leads
    found.reverse()
    await until(lambda: here.sweeper.leads)
    found.reverse()
    await until(lambda: here.asked("release_lock"))
    await end(running)


@pytest.mark.parametrize("said", ["DB index is out of range", "SELECT is not allowed in cluster mode"])
async def test_a_database_that_redis_does_not_have_is_forgotten(said: str) -> None:
    """A client asked for it. The others are swept, and the next round does not ask again."""
    here = Scene(ScriptedServer({0: {b"mail"}, 999: ResponseError(said)}))
    nowhere = here.server.databases[999]
    await here.sweeper.sweep()
    assert here.databases == {0}
    assert nowhere.closed
    assert here.asked("sweep_active")


async def test_another_refusal_is_kept_to_its_database(caplog: pytest.LogCaptureFixture) -> None:
    """It is named, and the database stays among those that are swept."""
    here = Scene(ScriptedServer({0: ResponseError("NOPERM no permissions")}))
    await here.sweeper.sweep()
    assert "database 0 cannot be swept, the rest is: NOPERM" in caplog.text
    assert here.databases == {0}


# --- due tasks that are handed over -----------------------------------------------------------------------------------


class Taker:
    """In the place of a handover: it takes some IDs, and the others stay."""

    def __init__(self, *takes: bytes) -> None:
        self.takes = takes
        self.batches: list[Batch] = []
        self.rounds = 0
        self.name = "file:/tasks"

    def begin_round(self) -> float:
        """Take note of a round."""
        self.rounds += 1
        return 12.5

    async def hand_over(self, _client: Any, batch: Batch, until: float) -> list[bytes]:
        """Take some of the tasks."""
        assert until == 12.5
        self.batches.append(batch)
        return [task_id for task_id in batch.ids if task_id in self.takes]

    async def over_cap(self, _client: Any, queue: str, cap: HandoverCap) -> list[bytes]:
        """Return the oldest task."""
        assert (queue, cap) == ("mail", HandoverCap(OWN_ARCHIVE_CAP, spare_untimed=False))
        return [b"oldest"]


async def test_due_tasks_are_left_to_who_hands_them_over() -> None:
    """The script does not remove them; what is told, and where the next page starts, is by what is gone then."""
    taker = Taker(b"two")
    server = ScriptedServer({0: {b"mail"}}, sweep=answers(page(b"one", b"two", examined=PAGE_SIZE), page()))
    here = Scene(server, cast("Handover", taker))
    await here.sweeper.sweep()
    assert {tuple(asked.args[8:11]) for asked in here.asked("sweep")} == {(30_000, 6_250, 30_000)}
    assert taker.rounds == 1
    assert taker.batches == [Batch("mail", "completed", [b"one", b"two"], 60_000)]
    assert [told.due for told in here.told.pages] == [("two",)]
    assert by_score(here.asked("sweep"))[1].args[6] == PAGE_SIZE
    assert here.server.names()[-1] != "sweep"


async def test_an_archive_that_is_too_large_has_its_oldest_tasks_handed_over() -> None:
    """Where the policy is enforced."""
    taker = Taker(b"oldest")
    full = [0, 0, None, OWN_ARCHIVE_CAP + 1, 0, None, 0, 0, None, 0, 0, None, 0, 0, None]
    here = Scene(ScriptedServer({0: {b"mail"}}, survey=lambda _keys, _args: full), cast("Handover", taker))
    await here.sweeper.sweep()
    assert taker.batches == [Batch("mail", "archived", [b"oldest"], 0, OWN_ARCHIVE_CAP)]
    assert [told.due for told in here.told.pages] == [("oldest",)]
    here.reach.enforcing = False
    await here.sweeper.sweep()
    assert len(taker.batches) == 1


async def test_who_loses_the_lock_hands_nothing_over() -> None:
    """Another sidecar does: the lock is asked for once more before each batch."""
    taker = Taker(b"one")
    asked: list[int] = []

    def take_lock(_keys: Any, _args: Any) -> int:
        asked.append(1)
        return int(len(asked) <= 2)

    server = ScriptedServer({0: {b"mail"}}, sweep=lambda _keys, _args: page(b"one"), take_lock=take_lock)
    here = Scene(server, cast("Handover", taker))
    running = asyncio.create_task(here.sweeper.run())
    await until(lambda: taker.rounds)
    await end(running)
    assert len(asked) > 2
    assert not taker.batches


# --- rounds -----------------------------------------------------------------------------------------------------------


async def end(running: "asyncio.Task[None]") -> None:
    """Cancel a sweeper."""
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rounds follow each other at once."""
    monkeypatch.setattr("asynq_ttl.sweep.schedule.SHORTEST_PAUSE", 0.01)
    monkeypatch.setattr("asynq_ttl.sweep.schedule.LONGEST_PAUSE", 0.01)


async def test_each_round_is_told() -> None:
    """It went well, so without a problem; the lock outlasts some rounds."""
    here = scene()
    running = asyncio.create_task(here.sweeper.run())
    await until(lambda: len(here.told.rounds) >= 2)
    await end(running)
    assert set(here.told.rounds) == {""}
    lock = here.asked("take_lock")[1]  # the first only asks whether it is free
    assert lock.keys == [LOCK_KEY]
    assert lock.args[1:] == ["15000", "coverage"]


async def test_a_round_that_fails_is_told_and_the_next_one_tries_again(caplog: pytest.LogCaptureFixture) -> None:
    """Redis may be away for a moment."""
    failures = [RedisConnectionError("away"), TimeoutError()]

    def active(_keys: list[bytes], _args: list[Any]) -> list[int]:
        if failures:
            raise failures.pop(0)
        return [0, 0, 0]

    here = scene(sweep_active=active)
    running = asyncio.create_task(here.sweeper.run())
    await until(lambda: len(here.told.rounds) >= 3)
    await end(running)
    assert here.told.rounds[:3] == ["away", "TimeoutError", ""]
    assert caplog.messages[:2] == [
        "sweeping failed, the next round tries again: away",
        "sweeping failed, the next round tries again: TimeoutError",
    ]


async def test_without_the_lock_nothing_is_swept_and_nothing_told() -> None:
    """Another sidecar does it."""
    here = scene(take_lock=lambda _keys, _args: 0)
    running = asyncio.create_task(here.sweeper.run())
    await until(lambda: len(here.asked("take_lock")) >= 2)
    await end(running)
    assert set(here.server.names()) == {"take_lock"}
    assert here.told.rounds == []
    assert not here.sweeper.leads


async def test_where_nothing_can_be_due_the_lock_is_left_to_expire() -> None:
    """As in shadow mode: this sidecar does not lead any more, and asks Redis for nothing."""
    here = scene()
    running = asyncio.create_task(here.sweeper.run())
    await until(lambda: here.told.rounds)
    assert here.sweeper.leads
    here.reach.active = False
    await until(lambda: not here.sweeper.leads)
    here.server.asked.clear()
    await asyncio.sleep(0.2)
    assert here.server.asked == []
    await end(running)


async def test_the_interval_leaves_the_grace_room_for_some_rounds() -> None:
    """By the policy in force at the moment."""
    here = scene()
    assert here.sweeper.interval_seconds == INTERVAL
    here.reach.policy = Policy((), grace_seconds=8)
    assert here.sweeper.interval_seconds == 2


@pytest.mark.parametrize("leads", [True, False])
async def test_at_the_end_the_lock_is_given_back_and_all_connections_are_closed(leads: bool) -> None:
    """The lock only by the sidecar that has it; that Redis is away then does no harm."""

    def release(_keys: list[bytes], _args: list[Any]) -> int:
        raise RedisConnectionError("away")

    here = scene(take_lock=lambda _keys, _args: int(leads), release_lock=release)
    running = asyncio.create_task(here.sweeper.run())
    await until(lambda: here.asked("take_lock") and (here.told.rounds or not leads))
    await end(running)
    await here.sweeper.close()
    assert len(here.asked("release_lock")) == leads
    assert here.server.databases[0].closed
