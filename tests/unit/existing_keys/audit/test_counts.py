import json
import random

from asynq_ttl.existing_keys.audit.counts import AGE_NAMES, NEVER, Tally, load_tally


def test_the_estimate_holds_what_is_there() -> None:
    """Of many groups of tasks with payloads of very different sizes, about 95 % lie within the error."""
    within = 0
    for seed in range(200):
        chance, group, real = random.Random(seed), Tally().group("q", "archived"), 0
        for _ in range(3000):
            content = int(chance.paretovariate(1.1) * 50)
            usage = content + 90 + chance.choice((0, 8, 16, 48))
            real += usage
            group.tasks += 1
            group.content += content
            if group.wants_sample():
                group.add_sample(usage, content)
        assert abs(group.bytes - real) < 0.02 * real
        within += abs(group.bytes - real) <= group.error_bytes
    assert 180 <= within <= 200


def test_few_tasks_are_measured_all() -> None:
    """Then there is no error."""
    group = Tally().group("q", "archived")
    assert (group.bytes, group.error_bytes) == (0, 0)
    for usage in (100, 300):
        group.tasks += 1
        group.content += 10
        assert group.wants_sample()
        group.add_sample(usage, 10)
    assert (group.bytes, group.error_bytes) == (400, 0)


def test_ages_fall_into_their_columns() -> None:
    """Each limit belongs to the column after it."""
    group = Tally().group("q", "archived")
    for seconds in (0, 3599, 3600, 86_399, 86_400, 10**9):
        group.add_age(seconds)
    assert dict(zip(AGE_NAMES, group.ages, strict=True)) == {
        **dict.fromkeys(AGE_NAMES, 0),
        "< 1h": 2,
        "< 6h": 1,
        "< 1d": 1,
        "< 3d": 1,
        "older": 1,
    }
    assert group.oldest == 10**9


def test_a_checkpoint_brings_everything_back() -> None:
    """Through JSON and back it is the same."""
    tally = Tally(keys=7, other_keys=2)
    group = tally.group("q\udcff", "archived")
    group.add_age(5)
    group.own.add(3, 100)
    group.add_arrival(NEVER, 7, 5)
    for _ in range(9):
        tally.add_problem("ghost", "q: a")
    assert load_tally(json.loads(json.dumps(tally.dump()))) == tally
    assert (tally.problems, tally.examples) == ({"ghost": 9}, {"ghost": ["q: a"]})
