"""A worker that speaks Asynq's keys and states by Lua of its own: JSON messages, scores in nanoseconds, no trims.

The texts are this project's own. They are what several implementations in other languages come to, as far as it matters
here: nothing of Asynq's scripts is in them, and no text says by itself what becomes of a task.
"""

import json

QUEUE = "asynq:{q}:"
TASK = f"{QUEUE}t:"
ARCHIVED, COMPLETED, PENDING, ACTIVE = (QUEUE + name for name in ("archived", "completed", "pending", "active"))

FAIL = b"""
local time = redis.call("TIME")
local score = tonumber(time[1]) * 1000000000 + tonumber(time[2]) * 1000
redis.call("LREM", KEYS[2], 1, ARGV[1])
redis.call("ZADD", KEYS[3], score, ARGV[1])
redis.call("HSET", KEYS[1], "state", "archived", "msg", ARGV[2])
return {1, ARGV[1]}
"""
"""KEYS: task, active, archived. ARGV: ID, message. The score is computed in Lua, in nanoseconds."""

MOVE = b"""
local from, to = KEYS[2], KEYS[3]
local function take(key, id)
  if redis.call("TYPE", key).ok == "zset" then return redis.call("ZREM", key, id) end
  return redis.call("LREM", key, 1, id)
end
if take(from, ARGV[1]) == 0 then return redis.error_reply("GONE no such task") end
if ARGV[3] == "" then
  redis.call("LPUSH", to, ARGV[1])
else
  redis.call("ZADD", to, ARGV[3], ARGV[1])
end
redis.call("HSET", KEYS[1], "state", ARGV[2])
return redis.status_reply("MOVED")
"""
"""KEYS: task, from, to. ARGV: ID, state, score (empty for a list). One script for every move: the state is an ARGV."""

PEEK = b"""
local call = redis["call"]
return {call("HGET", KEYS[1], "state"), call("ZSCORE", KEYS[2], ARGV[1])}
"""
"""KEYS: task, index. ARGV: ID. It only looks, in a way that cannot be read."""


def json_message(task_type: str, task_id: str) -> bytes:
    """Return a message that is no protocol buffer."""
    return json.dumps({"id": task_id, "type": task_type, "payload": {}}).encode()
