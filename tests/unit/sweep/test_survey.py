import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynq_ttl.sweep.schedule import LONGEST_PAUSE, ROUNDS_IN_GRACE, SHORTEST_PAUSE
from asynq_ttl.sweep.survey import PLACES, SMALL, Queue, Survey, pass_seconds

MAIL, SMS = Queue(0, "mail"), Queue(4, "sms")
NOTHING = [0, 0, None]


def answer(**places: list[int | None]) -> list[int | None]:
    """Return what the script says of a queue."""
    return [part for place in PLACES for part in places.get(place, NOTHING)]


@pytest.fixture(name="survey")
def _survey() -> Survey:
    """Return a survey of two queues in two databases, neither of which has been surveyed yet."""
    survey = Survey()
    assert survey.unlisted({4, 0}, 10) == [0, 4]
    for queue in (MAIL, SMS):
        survey.listed(queue.database, [queue.name], 10, within=20)
    return survey


def test_small_indexes_with_tasks_that_have_no_ttl_are_known_with_a_digest(survey: Survey) -> None:
    """Until a survey finds none any more."""
    assert set(survey.queues()) == {MAIL, SMS}
    survey.surveyed(MAIL, answer(archived=[3, 0, None], completed=[3, 0, 9]), 10, 20, {"archived": "digest"})
    assert survey.untimed() == [(MAIL, "archived", "digest")]
    survey.surveyed(MAIL, answer(archived=[3, 0, None]), 10, 20)
    assert survey.untimed() == []


def test_the_pass_has_room_in_the_grace() -> None:
    """It takes six rounds, or with one round more three fifths of the grace."""
    assert pass_seconds(5, 60) == 30
    assert pass_seconds(5, 30) == 13
    assert pass_seconds(0.2, 60) == pytest.approx(1.2)


def test_a_queue_that_is_listed_is_surveyed_at_once(survey: Survey) -> None:
    """Then within the pass, at a moment that is drawn anew each time."""
    assert survey.stale(10) == [MAIL, SMS]
    survey.surveyed(MAIL, answer(), 10, 20)
    assert survey.stale(10) == [SMS]
    assert survey.stale(25.9) == [SMS]
    assert survey.stale(30) == [MAIL, SMS]


def test_databases_are_listed_again_within_the_pass(survey: Survey) -> None:
    """What is not listed any more is forgotten, and so is a database that is not swept any more."""
    assert survey.unlisted({0, 4}, 25.9) == []
    assert survey.unlisted({0, 4}, 30) == [0, 4]
    for queue in (MAIL, SMS):
        survey.surveyed(queue, answer(archived=[20, 1, 5]), 10, 20)
    survey.listed(0, ["other"], 30, 20)
    assert survey.names(0) == {"other"}
    assert {queue for queue, _ in survey.odd()} == {SMS}
    survey.unlisted({0}, 30)
    assert not survey.anything
    assert survey.names(4) == set()


def test_queues_without_members_are_nothing_to_sweep(survey: Survey) -> None:
    """A name is not enough; tasks of any kind are."""
    survey.surveyed(MAIL, answer(), 10, 20)
    assert not survey.anything
    survey.surveyed(MAIL, answer(pending=[1, 0, None]), 10, 20)
    assert survey.anything
    assert not survey.holds(MAIL)
    survey.surveyed(MAIL, answer(archived=[1, 0, None]), 10, 20)
    assert survey.holds(MAIL)
    survey.surveyed(MAIL, answer(), 10, 20)
    assert not survey.anything


def test_an_index_is_open_from_the_moment_at_which_a_task_can_be_due(survey: Survey) -> None:
    """A large one a grace earlier: clocks may disagree, and the survey has not looked at its members."""
    survey.surveyed(MAIL, answer(completed=[SMALL, 0, 100], archived=[SMALL + 1, 0, 100]), 10, 20)
    assert survey.due(39, 60) == []
    assert survey.due(40, 60) == [(MAIL, "archived")]
    assert survey.due(99, 60) == [(MAIL, "archived")]
    assert survey.due(100, 60) == [(MAIL, "completed"), (MAIL, "archived")]


def test_what_is_odd_is_so_until_it_has_been_looked_at(survey: Survey) -> None:
    """Or until a survey says otherwise; a queue that has gone meanwhile does no harm."""
    survey.surveyed(MAIL, answer(active=[3, 1, None], retry=[1, 1, None]), 10, 20)
    assert sorted(survey.odd()) == [(MAIL, "active"), (MAIL, "retry")]
    survey.checked(MAIL, "active")
    survey.checked(SMS, "active")
    assert survey.odd() == [(MAIL, "retry")]
    survey.surveyed(MAIL, answer(active=[3, 0, None]), 10, 20)
    assert survey.odd() == []


def test_large_places_are_those_that_no_survey_looks_through(survey: Survey) -> None:
    """With how many members they have."""
    survey.surveyed(MAIL, answer(completed=[SMALL, 0, None], archived=[500, 0, None], retry=[40, 0, None]), 10, 20)
    assert list(survey.larger("completed", "archived")) == [(MAIL, "archived", 500)]
    assert list(survey.larger("retry")) == [(MAIL, "retry", 40)]
    assert list(survey.larger("completed", than=0)) == [(MAIL, "completed", SMALL)]


def test_a_queue_in_which_something_was_done_is_surveyed_in_the_next_round(survey: Survey) -> None:
    """Unless it has gone meanwhile."""
    survey.surveyed(MAIL, answer(), 10, 20)
    survey.again(MAIL)
    survey.again(Queue(0, "gone"))
    assert survey.stale(11) == [MAIL, SMS]


class Member(NamedTuple):
    """A task: when it comes into its index, and when its retention is over."""

    at: float
    over: float


@given(
    grace=st.integers(1, 300),
    share=st.floats(0.05, 2),
    large=st.booleans(),
    tasks=st.lists(st.tuples(st.floats(0, 4), st.floats(0.01, 4)), min_size=1, max_size=8),
    seed=st.integers(0, 1000),
)
@settings(deadline=None)
def test_every_task_is_looked_at_within_its_grace(
    grace: int, share: float, large: bool, tasks: list[tuple[float, float]], seed: int
) -> None:
    """Whenever it comes, however long it is kept, and however long the pauses are (in parts of the grace)."""
    members = [Member(at * grace, (at + retention) * grace) for at, retention in tasks]
    interval, random_ = min(share * grace, grace / ROUNDS_IN_GRACE), random.Random(seed)
    within, survey, now = pass_seconds(interval, grace), Survey(), 0.0
    seen: set[Member] = set()
    while now < max(member.over for member in members) + grace:
        now += interval * random_.uniform(SHORTEST_PAUSE, LONGEST_PAUSE)
        there = [member for member in members if member.at <= now and member not in seen]
        for database in survey.unlisted({0}, now):
            survey.listed(database, ["mail"] if any(member.at <= now for member in members) else [], now, within)
        for queue in survey.stale(now):
            due = min((int(member.over) for member in there), default=None)
            survey.surveyed(queue, answer(archived=[SMALL + large if there else 0, 0, due]), now, within)
        for queue, _ in survey.due(int(now), grace):
            seen |= {member for member in there if member.over <= now}
            survey.again(queue)
        missed = [member for member in members if member.over + grace < now and member not in seen]
        assert missed == []


def test_held_tasks_are_counted(survey: Survey) -> None:
    """Of all queues, as they were surveyed last."""
    places = answer(archived=[30, 0, None], completed=[3, 0, 9])
    survey.surveyed(MAIL, places, 10, 20, held={"archived": 2, "completed": 1})
    survey.surveyed(SMS, places, 10, 20, held={"archived": 4})
    assert survey.held == 7
    survey.surveyed(MAIL, places, 10, 20)
    assert survey.held == 4
