from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from asynq_ttl.sweep.lock import LOCK_KEY, Lock
from support.scripted_redis import Asked, ScriptedRedis

FREE, HELD, HELD_FOR_ANOTHER_COVERAGE = 1, 0, 2


def redis(*answers: int | Exception) -> Any:
    """Return a Redis that answers the questions for a lock so, one after the other."""
    rest = list(answers)

    def take(_keys: list[bytes], _args: list[Any]) -> int:
        answer = rest.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ScriptedRedis(set(), [], take_lock=take)


async def test_a_lock_that_is_free_is_taken_for_its_lifetime() -> None:
    """With a token by which Redis tells sidecars apart, and what this one covers."""
    client, lock = redis(FREE), Lock(15)
    assert not lock.held
    assert await lock.take(client, "coverage")
    assert lock.held
    ((_, keys, (token, milliseconds, coverage)),) = client.asked
    assert (keys, milliseconds, coverage) == ([LOCK_KEY], "15000", "coverage")
    assert len(token) >= 16


async def test_no_two_sidecars_have_the_same_token() -> None:
    """And one has the same every time."""
    client = redis(FREE, FREE, FREE)
    one, other = Lock(1), Lock(1)
    for lock in (one, one, other):
        await lock.take(client, "coverage")
    first, second, third = (asked.args[0] for asked in client.asked)
    assert first == second != third


async def test_in_a_long_round_a_lock_is_kept_and_none_is_taken() -> None:
    """Who sweeps without a lock goes on without; who has lost it stops."""
    client, lock = redis(FREE, FREE, HELD), Lock(15)
    assert await lock.keep(client, "coverage")
    assert client.asked == []
    await lock.take(client, "coverage")
    assert await lock.keep(client, "coverage")
    assert not await lock.keep(client, "coverage")


async def test_a_lock_of_a_sidecar_that_covers_the_same_is_waited_for() -> None:
    """No other lock is asked for: two would sweep the same."""
    client, lock = redis(HELD), Lock(15)
    assert not await lock.take(client, "coverage")
    assert not lock.held
    assert [asked.keys for asked in client.asked] == [[LOCK_KEY]]


@pytest.mark.parametrize(("second", "held"), [(FREE, True), (HELD, False), (HELD_FOR_ANOTHER_COVERAGE, False)])
async def test_beside_a_sidecar_that_covers_something_else_there_is_another_lock(second: int, held: bool) -> None:
    """It is named after what this sidecar covers, so that those which cover the same share it."""
    client, lock = redis(HELD_FOR_ANOTHER_COVERAGE, second), Lock(15)
    assert await lock.take(client, "coverage") is held
    assert [asked.keys for asked in client.asked] == [[LOCK_KEY], [f"{LOCK_KEY}:coverage"]]


async def test_a_lock_that_another_sidecar_has_got_meanwhile_is_not_held() -> None:
    """As when this one was held up for longer than the lock lives."""
    client, lock = redis(FREE, HELD), Lock(15)
    await lock.take(client, "coverage")
    assert not await lock.take(client, "coverage")
    assert not lock.held


async def test_where_redis_cannot_say_the_lock_is_what_it_was() -> None:
    """The key is still there, or expires by itself."""
    client, lock = redis(FREE, RedisConnectionError("away")), Lock(15)
    await lock.take(client, "coverage")
    with pytest.raises(RedisConnectionError):
        await lock.take(client, "coverage")
    assert lock.held


@pytest.mark.parametrize(
    ("answers", "key"), [([FREE], LOCK_KEY), ([HELD_FOR_ANOTHER_COVERAGE, FREE], f"{LOCK_KEY}:coverage")]
)
async def test_the_lock_that_is_held_is_given_back(answers: list[int], key: str) -> None:
    """By its holder's token: another sidecar may have it by now."""
    client, lock = redis(*answers), Lock(15)
    await lock.take(client, "coverage")
    token = client.asked[-1].args[0]
    await lock.release(client)
    assert client.asked[-1] == Asked("release_lock", [key], [token])


async def test_a_lock_that_is_not_held_is_not_given_back() -> None:
    """Never taken, or left to expire: Redis is not asked for either."""
    client, lock = redis(FREE), Lock(15)
    await lock.release(client)
    assert client.asked == []
    await lock.take(client, "coverage")
    lock.let_expire()
    assert not lock.held
    await lock.release(client)
    assert [asked.script for asked in client.asked] == ["take_lock"]


async def test_a_full_redis_is_swept_without_a_lock() -> None:
    """It refuses to write the lock; to remove what is due makes room."""
    client, lock = redis(ResponseError("command not allowed when used memory > 'maxmemory'.")), Lock(15)
    assert await lock.take(client, "coverage")
    assert not lock.held


@pytest.mark.parametrize(
    ("answers", "free"),
    [
        ([FREE], True),
        ([HELD], False),
        ([HELD_FOR_ANOTHER_COVERAGE, FREE], True),
        ([HELD_FOR_ANOTHER_COVERAGE] * 2, False),
    ],
)
async def test_to_ask_whether_the_lock_is_free_takes_nothing(answers: list[int], free: bool) -> None:
    """The script is told to write nothing."""
    client, lock = redis(*answers), Lock(15)
    assert await lock.is_free(client, "coverage") is free
    assert {asked.args[1] for asked in client.asked} == {"0"}
    assert not lock.held


WRONG = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


@pytest.mark.parametrize(
    ("answers", "may_sweep", "held"),
    [([WRONG, FREE], True, True), ([WRONG, HELD], False, False), ([WRONG, WRONG], True, False)],
)
async def test_a_key_of_the_wrong_type_is_no_lock(answers: list[Any], may_sweep: bool, held: bool) -> None:
    """The lock beside it is taken; without that one either, Redis is swept without a lock."""
    client, lock = redis(*answers), Lock(15)
    assert await lock.take(client, "coverage") is may_sweep
    assert lock.held is held


async def test_a_lock_of_another_coverage_and_a_key_of_the_wrong_type_are_no_obstacle() -> None:
    """Nobody sweeps what this sidecar covers."""
    client, lock = redis(HELD_FOR_ANOTHER_COVERAGE, WRONG), Lock(15)
    assert await lock.take(client, "coverage")
    assert not lock.held


async def test_another_refusal_is_raised() -> None:
    """As of a user who may not write the lock."""
    client, lock = redis(ResponseError("NOPERM")), Lock(15)
    with pytest.raises(ResponseError, match="NOPERM"):
        await lock.take(client, "coverage")
