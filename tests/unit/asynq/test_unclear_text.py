"""Which texts may end a task although nobody understands how."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.asynq.unclear_text import may_end_tasks
from support.foreign_worker import FAIL, MOVE, PEEK
from support.small_scripts import COMPLETE, DEQUEUE, OTHER, RUN_ONE, UNKNOWN


@pytest.mark.parametrize("text", [UNKNOWN, COMPLETE, FAIL, MOVE, PEEK])
def test_what_may_end_a_task_is_told(text: bytes) -> None:
    """It names a terminal state, takes the state from elsewhere, or hides what it calls."""
    assert may_end_tasks(text)


@pytest.mark.parametrize(
    "call",
    [
        b'redis.call("HSET", KEYS[1], "state", ARGV[1])',
        b'redis.call("hmset", KEYS[1], "msg", ARGV[1], "state", ARGV[2])',
        b'redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])',
        b'redis.call("HSET", KEYS[1], unpack(ARGV))',
        b'redis.call("HSET", KEYS[1], "msg", unpack(ARGV))',
        b'redis.call("HSET", KEYS[1], "msg", ARGV[1], unpack(ARGV))',
        b'redis.call("HSETNX", KEYS[1], "state", ARGV[1])',
        b'redis.call("RENAME", KEYS[1], KEYS[2])',
        b'redis.call("RESTORE", KEYS[1], 0, ARGV[1])',
        b"redis.call(ARGV[1], KEYS[1])",
        b'local write = redis["call"] write("HSET")',
        b"local state = 'completed'",
    ],
)
def test_each_way_of_writing_a_state_that_is_not_spelt_out_counts(call: bytes) -> None:
    """Names or states from elsewhere, other commands that make a hash, calls that cannot be read."""
    assert may_end_tasks(call)


@pytest.mark.parametrize(
    "text",
    [
        OTHER,
        DEQUEUE,
        RUN_ONE,
        b'redis.call("HSET", KEYS[1], "state", "pending", "msg", ARGV[1])',
        b'redis.call("HSET", KEYS[1], "msg", ARGV[1], "pending_since", ARGV[2])',
        b'redis.call("DEL", KEYS[1]) redis.call("INCR", KEYS[2])',
        b'-- redis.call("HSET", KEYS[1], "state", "archived")',
        b"",
    ],
)
def test_what_spells_out_only_live_states_cannot(text: bytes) -> None:
    """Enqueueing, dequeueing and counting are the most of all calls: they need no look at their KEYS."""
    assert not may_end_tasks(text)


@given(st.binary(max_size=200))
def test_any_text_has_an_answer(text: bytes) -> None:
    """No text raises."""
    assert may_end_tasks(text) in (True, False)
