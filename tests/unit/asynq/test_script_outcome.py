"""What the reply of a script says about its tasks."""

import pytest

from asynq_ttl.asynq.script_shape import Kind, classify
from support.small_scripts import ARCHIVE, ARCHIVE_ALL, ARCHIVE_ONE, COMPLETE

EACH = b"""
local ids = redis.call("ZRANGE", KEYS[1], 0, -1)
for _, id in ipairs(ids) do
  redis.call("ZADD", KEYS[2], ARGV[1], id)
  redis.call("HSET", ARGV[4] .. id, "state", "archived")
end
redis.call("ZREMRANGEBYSCORE", KEYS[2], "-inf", ARGV[2])
redis.call("ZREMRANGEBYRANK", KEYS[2], 0, -ARGV[3])
redis.call("DEL", KEYS[1])
return #ids
"""
GUARDED = b"""
if redis.call("LREM", KEYS[1], 0, ARGV[1]) == 0 then
  return redis.error_reply("NOT FOUND")
end
if redis.call("ZREM", KEYS[2], ARGV[1]) == 0 then
  return redis.error_reply("NOT FOUND")
end
if redis.call("ZADD", KEYS[3], ARGV[2], ARGV[1]) ~= 1 then
  return redis.error_reply("INTERNAL")
end
redis.call("HSET", KEYS[4], "msg", ARGV[3], "state", "completed")
return redis.status_reply("OK")
"""


@pytest.mark.parametrize("text", [COMPLETE, ARCHIVE, ARCHIVE_ONE, EACH, GUARDED])
def test_a_success_says_that_the_state_is_written(text: bytes) -> None:
    """Nothing but errors, and numbers that are no success, is returned before it."""
    assert classify(text).says_ended


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (ARCHIVE, b'\nredis.call("ZADD"', b'\nif ARGV[9] then return redis.status_reply("OK") end redis.call("ZADD"'),
        (ARCHIVE, b'\nredis.call("ZADD"', b'\nif ARGV[9] then return 1 end redis.call("ZADD"'),
        (ARCHIVE, b'\nredis.call("ZADD"', b'\nif ARGV[9] then return -1 + 2 end redis.call("ZADD"'),
        (ARCHIVE, b'redis.call("HSET"', b'if ARGV[9] then redis.call("HSET"'),
        (ARCHIVE, b'redis.call("HSET"', b'for _ = 1, ARGV[9] do redis.call("HSET"'),
        (ARCHIVE, b"\nreturn", b'\nredis.call("DEL", KEYS[1]) return'),
        (ARCHIVE, b"\nreturn", b'\nredis.call("DEL", ARGV[9] .. id) return'),
        (ARCHIVE, b"\nreturn", b"\nlocal act = redis return"),
        (EACH, b"ipairs(ids)", b"ipairs(some(ids))"),
        (EACH, b'  redis.call("ZADD"', b'  if id ~= ARGV[9] then break end redis.call("ZADD"'),
        (EACH, b"0, -1)", b"0, ARGV[9] - 1)"),
        (ARCHIVE_ALL, b"", b""),
    ],
)
def test_where_it_may_not_be_written_a_success_says_nothing(text: bytes, old: bytes, new: bytes) -> None:
    """A condition, another success, something behind it, or another list: then the task's hash is looked at."""
    changed = text.replace(old, new)
    if b'then redis.call("HSET"' in new or b"do redis.call" in new:
        changed = changed.replace(b'"archived")', b'"archived") end')
    shape = classify(changed)
    assert shape.kind is classify(text).kind
    assert not shape.says_ended


def test_a_script_may_say_that_the_id_is_in_the_index_already() -> None:
    """Then what it has done by then is known."""
    shape = classify(GUARDED)
    assert (shape.kind, shape.refusal, shape.active_key, shape.lease_key) == (Kind.COMPLETE, "INTERNAL", 1, 2)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"INTERNAL"', b'"NOT FOUND"'),
        (b'"INTERNAL"', b'"FOUND"'),
        (b'"INTERNAL"', b'"it\'s there"'),
        (b'return redis.error_reply("INTERNAL")', b'redis.redis.error_reply("INTERNAL")'),
        (b'\nif redis.call("LREM"', b'\nredis.call("INCR", KEYS[5]) if redis.call("LREM"'),
        (b'"ZREM", KEYS[2], ARGV[1]', b'"ZREM", KEYS[2], ARGV[4]'),
    ],
)
def test_what_has_been_done_by_then_is_not_known_of_any_other(old: bytes, new: bytes) -> None:
    """Another order, another ID, an error that is given for something else, or one that is raised."""
    shape = classify(GUARDED.replace(old, new))
    assert shape.kind is Kind.COMPLETE
    assert (shape.refusal, shape.active_key, shape.lease_key) == ("", 0, 0)
