from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import Keep, Policy, Retention, Rule, State
from asynq_ttl.sweep.schedule import (
    DUE_PAGES,
    LONGEST_PAUSE,
    MOST_PATROL_PER_SECOND,
    PAGE_COST,
    PAGE_SIZE,
    PATROL_PER_SECOND,
    ROUNDS_IN_GRACE,
    SHORTEST_PAUSE,
    WAITING_PER_SECOND,
    DuePages,
    Index,
    Looked,
    RoundTrip,
    Schedule,
    WaitingTasks,
    Window,
    archive_retentions,
)

DAY = 86_400
NOW = 1_700_000_000
ARCHIVED = Index(0, "q", State.ARCHIVED)
COMPLETED = Index(0, "q", State.COMPLETED)
MAIL = (compile_glob("mail:*"),)


def ttl(seconds: int) -> Retention:
    """Return a retention of some seconds."""
    return Retention(Keep.TTL, seconds)


def policy_of(*archived: Retention, grace: int = 60) -> Policy:
    """Return a policy with a rule for one type of task for each retention; the last one is for every type."""
    *special, last = archived
    rules = [
        Rule(f"rule-{number}", types=(compile_glob(f"type-{number}"),), archived=retention)
        for number, retention in enumerate(special)
    ]
    return Policy((*rules, Rule("last", archived=last)), grace_seconds=grace)


def walk(trip: RoundTrip[str], sizes: dict[str, int], members: int) -> list[tuple[str, int]]:
    """Do a round through places of some sizes, in which everything is kept; return its pages."""
    pages = []
    for place, first in trip.pages(sizes, members):
        pages.append((place, first))
        examined = min(PAGE_SIZE, max(sizes[place] - first, 0))
        trip.looked(place, Looked(examined, examined))
    return pages


# --- where due tasks can be -------------------------------------------------------------------------------------------


def test_completed_tasks_are_due_at_their_score() -> None:
    """So there is one window: up to now, and a grace more for clocks that disagree."""
    windows = list(Schedule(5).windows(policy_of(ttl(DAY), grace=60), COMPLETED, NOW))
    assert windows == [Window("-inf", str(NOW + 60))]


def test_archived_tasks_are_due_a_retention_after_their_score() -> None:
    """Each retention of the queue has a window, as wide as the grace and the time since the last round."""
    windows = list(Schedule(5).windows(policy_of(ttl(DAY), ttl(7 * DAY), grace=60), ARCHIVED, NOW))
    assert windows == [
        Window(str(NOW - DAY - 65), str(NOW - DAY + 60)),
        Window(str(NOW - 7 * DAY - 65), str(NOW - 7 * DAY + 60)),
    ]


@pytest.mark.parametrize(
    ("archived", "retentions"),
    [
        ([ttl(DAY)], [DAY]),
        ([ttl(7 * DAY), ttl(DAY), ttl(DAY)], [DAY, 7 * DAY]),
        ([Retention(Keep.OWN)], [90 * DAY]),
        ([Retention(Keep.FOREVER)], []),
        ([Retention(Keep.DELETE)], []),
        ([Retention(Keep.FOREVER), ttl(DAY)], [DAY]),
    ],
)
def test_the_retentions_of_an_archive_are_those_of_its_rules(archived: list[Retention], retentions: list[int]) -> None:
    """What is kept for ever, or not at all, is never due."""
    assert archive_retentions(policy_of(*archived), "q") == retentions


@pytest.mark.parametrize(("seconds", "retentions"), [(DAY, [DAY]), (91 * DAY, [90 * DAY, 91 * DAY])])
def test_tasks_that_no_rule_matches_are_due_when_asynq_would_remove_them(seconds: int, retentions: list[int]) -> None:
    """That is left to the sidecar where a rule of the queue keeps others for longer."""
    assert archive_retentions(Policy((Rule("mail", types=MAIL, archived=ttl(seconds)),)), "q") == retentions


def test_a_queue_without_a_rule_has_no_window_in_its_archive() -> None:
    """Nothing there is due by this policy."""
    policy = Policy((Rule("other", queues=(compile_glob("other"),), archived=ttl(DAY)),))
    assert list(Schedule(5).windows(policy, ARCHIVED, NOW)) == []


def test_due_pages_follow_each_other_until_one_is_not_full() -> None:
    """The next page starts behind what was kept of this one; then comes the next window."""
    due = DuePages()
    windows = [Window("1", "2"), Window("3", "4")]
    seen = []
    finds = iter([Looked(PAGE_SIZE, 3), Looked(PAGE_SIZE, 0), Looked(10, 10), Looked(0, 0)])
    for page in due.pages(windows):
        seen.append(page)
        due.looked(next(finds))
    assert seen == [(windows[0], 0), (windows[0], 3), (windows[0], 3), (windows[1], 0)]
    assert not due.spent


def test_a_page_of_which_nothing_is_told_ends_its_window() -> None:
    """It is not asked for again and again."""
    windows = [Window("1", "2"), Window("3", "4")]
    assert list(DuePages().pages(windows)) == [(window, 0) for window in windows]


def test_a_round_takes_no_more_due_pages_than_it_may() -> None:
    """However many are due, and in however many indexes; the next round takes up the rest."""
    due = DuePages()
    for _ in range(2):
        due.begin_round()
        assert not due.spent
        count = 0
        for window in (Window("1", "2"), Window("3", "4")):
            for _ in due.pages([window]):
                count += 1
                due.looked(Looked(PAGE_SIZE, 0))
        assert count == DUE_PAGES
        assert due.spent


def test_pages_that_are_not_full_cost_nothing() -> None:
    """Looking whether something is due must not make the sidecar say that it is behind."""
    due = DuePages()
    for _ in due.pages([Window("1", "2")] * (DUE_PAGES * 2)):
        due.looked(Looked(PAGE_SIZE - 1, 0))
    assert not due.spent


# --- the round trip ---------------------------------------------------------------------------------------------------


def test_a_round_trip_goes_on_where_the_last_round_stopped() -> None:
    """After the last page it begins anew."""
    trip: RoundTrip[str] = RoundTrip()
    sizes = {"a": 2 * PAGE_SIZE + 1}
    rounds = [walk(trip, sizes, 1) for _ in range(4)]
    assert rounds == [[("a", 0)], [("a", PAGE_SIZE)], [("a", 2 * PAGE_SIZE)], [("a", 0)]]


def test_what_is_gone_from_a_page_moves_the_next_one_up() -> None:
    """Positions are ranks: what was removed before them does not count."""
    trip: RoundTrip[str] = RoundTrip()
    for place, _ in trip.pages(["a"], 1):
        trip.looked(place, Looked(PAGE_SIZE, kept=7))
    assert list(trip.pages(["a"], 1)) == [("a", 7)]


def test_a_round_may_look_at_a_page_in_any_case() -> None:
    """However small its budget: otherwise it would never come round."""
    assert walk(RoundTrip(), {"a": 10 * PAGE_SIZE}, 0) == [("a", 0)]


def test_each_page_costs_its_members_and_a_fixed_part() -> None:
    """A round stops with the page that uses up its budget; without the fixed part, empty places would cost nothing."""
    full = 3 * (PAGE_SIZE + PAGE_COST)
    assert len(walk(RoundTrip(), {"a": 10 * PAGE_SIZE}, full)) == 3
    assert len(walk(RoundTrip(), {"a": 10 * PAGE_SIZE}, full + 1)) == 4
    empty = {f"queue-{number}": 0 for number in range(1_000)}
    assert len(walk(RoundTrip(), empty, 100 * PAGE_COST)) == 100


def test_what_was_begun_is_ended_before_anything_else_begins() -> None:
    """A place would otherwise wait for as long as others begin."""
    trip: RoundTrip[str] = RoundTrip()
    sizes = {f"place-{number}": 2 * PAGE_SIZE for number in range(20)}
    ((begun, _),) = walk(trip, sizes, 1)
    assert walk(trip, sizes, 1) == [(begun, PAGE_SIZE)]


def test_a_place_that_is_gone_is_forgotten() -> None:
    """Should it come back, its way begins anew."""
    trip: RoundTrip[str] = RoundTrip()
    sizes = {"a": 3 * PAGE_SIZE}
    walk(trip, sizes, 1)
    assert walk(trip, {}, 1) == []
    assert walk(trip, sizes, 1) == [("a", 0)]


def test_a_page_of_which_nothing_is_told_comes_again_in_the_next_round() -> None:
    """In this one the other places have their turn."""
    trip: RoundTrip[str] = RoundTrip()
    for _ in range(2):
        assert sorted(trip.pages(["a", "b"], 10_000)) == [("a", 0), ("b", 0)]


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 6 * PAGE_SIZE), min_size=1),
    st.integers(0, 4 * PAGE_SIZE),
)
def test_every_round_trip_comes_by_everywhere(sizes: dict[str, int], members: int) -> None:
    """No page is left out for good, and no round does more than it may, but for its last page."""
    trip: RoundTrip[str] = RoundTrip()
    wanted = {(place, first) for place, size in sizes.items() for first in range(0, max(size, 1), PAGE_SIZE)}
    seen: Counter[tuple[str, int]] = Counter()
    for _ in range(300):
        pages = walk(trip, sizes, members)
        seen.update(pages)
        examined = sum(min(PAGE_SIZE, max(sizes[place] - first, 0)) for place, first in pages)
        assert examined <= max(members, PAGE_SIZE) + PAGE_SIZE
    assert wanted <= set(seen)


# --- how often, and how fast ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("grace", "seconds"), [(60, 5), (20, 5), (8, 2), (1, 0.25)])
def test_the_grace_has_room_for_some_rounds(grace: int, seconds: float) -> None:
    """One that is late, or fails, is not the only one before a TTL fires."""
    schedule, policy = Schedule(5), policy_of(ttl(DAY), grace=grace)
    assert schedule.interval_seconds(policy) == seconds
    assert schedule.interval_seconds(policy) * ROUNDS_IN_GRACE <= grace


def test_pauses_are_drawn_around_the_interval() -> None:
    """Sidecars that were started together do not stay together."""
    schedule, policy = Schedule(5), policy_of(ttl(DAY))
    pauses = {schedule.pause_seconds(policy) for _ in range(100)}
    assert len(pauses) > 50
    assert 5 * SHORTEST_PAUSE <= min(pauses) < max(pauses) <= 5 * LONGEST_PAUSE


def test_a_task_is_due_before_the_next_round_would_be_too_late() -> None:
    """Whatever its score says: the pause until then can be the longest one."""
    schedule, policy = Schedule(5), policy_of(ttl(DAY))
    assert schedule.margins(policy).any_ms > 5_000 * LONGEST_PAUSE


def test_where_tasks_are_handed_over_half_the_grace_is_left_to_it() -> None:
    """A key that has less gets the grace again, and a task of which nothing is known is due."""
    margins = Schedule(5).margins(policy_of(ttl(DAY), grace=3_600), hands_over=True)
    assert margins.keep_ms == margins.unknown_ms == 1_800_000
    assert Schedule(5).margins(policy_of(ttl(DAY))).keep_ms == ""


def test_a_long_grace_does_not_make_the_sweeper_look_at_all_that_is_due_within_it() -> None:
    """A window ends a minute late at most."""
    schedule, policy = Schedule(5), policy_of(ttl(DAY), grace=3_600)
    assert list(schedule.windows(policy, COMPLETED, NOW)) == [Window("-inf", str(NOW + 60))]
    assert list(schedule.windows(policy, ARCHIVED, NOW)) == [Window(str(NOW - DAY - 3_605), str(NOW - DAY + 60))]


@pytest.mark.parametrize(
    ("grace", "members", "milliseconds"),
    [(30, 0, 30_000), (3_600, 0, 60_000), (3_600, 500_000, 100_000), (90, 500_000, 90_000)],
)
def test_a_task_of_which_nothing_is_known_is_due_before_the_patrol_would_be_too_late(
    grace: int, members: int, milliseconds: int
) -> None:
    """A minute before its end, or what the patrol takes through large indexes; never more than the grace."""
    schedule = Schedule(5)
    schedule.begin_round({ARCHIVED: members})
    assert schedule.margins(policy_of(ttl(DAY), grace=grace)).unknown_ms == milliseconds


@pytest.mark.parametrize(
    ("members", "per_second"),
    [(0, PATROL_PER_SECOND), (100_000, 2 * 100_000 / 60), (10_000_000, MOST_PATROL_PER_SECOND)],
)
def test_the_patrol_is_as_quick_as_it_has_to_be(members: int, per_second: float) -> None:
    """It passes every entry twice within a minute, up to a limit."""
    schedule, policy = Schedule(5), policy_of(ttl(DAY), grace=3_600)
    schedule.begin_round({ARCHIVED: members})
    pages = 0
    for index, _ in schedule.patrol_pages(policy):
        pages += 1
        schedule.patrol.looked(index, Looked(PAGE_SIZE, PAGE_SIZE))
    most = int(per_second * 5)
    assert (pages - 1) * (PAGE_SIZE + PAGE_COST) < most <= pages * (PAGE_SIZE + PAGE_COST)


def test_the_size_of_an_index_that_is_gone_does_not_count() -> None:
    """The patrol does not hurry for a queue that was deleted."""
    schedule, policy = Schedule(5), policy_of(ttl(DAY), grace=3_600)
    schedule.begin_round({ARCHIVED: 10_000_000})
    assert schedule.margins(policy).unknown_ms == 2_000_000
    schedule.begin_round({COMPLETED: 20})
    assert schedule.margins(policy).unknown_ms == 60_000


def test_waiting_tasks_are_looked_at_page_by_page() -> None:
    """Wherever many wait, as many as a round may look at."""
    schedule, policy = Schedule(5), policy_of(ttl(DAY))
    places = [WaitingTasks(*place) for place in ((0, "a", "pending"), (0, "a", "retry"), (3, "b", "pending"))]
    assert sorted(schedule.waiting_pages(policy, places)) == [(place, 0) for place in places]
    count = 0
    for place, _ in schedule.waiting_pages(policy, places):
        count += 1
        schedule.waiting.looked(place, Looked(PAGE_SIZE, PAGE_SIZE))
    assert count == -(-WAITING_PER_SECOND * 5 // (PAGE_SIZE + PAGE_COST))


def test_the_retentions_of_a_queue_are_remembered_until_the_policy_changes() -> None:
    """Rules are matched once for each queue."""
    schedule, policy = Schedule(5), policy_of(ttl(DAY))
    assert schedule.retentions(policy, "q") == (DAY,)
    assert schedule.retentions(policy, "q") is schedule.retentions(policy, "q")
    assert schedule.retentions(policy_of(ttl(2 * DAY)), "q") == (2 * DAY,)
