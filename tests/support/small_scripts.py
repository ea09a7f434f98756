"""Small Lua scripts of each kind, with what they are.

They are this project's own; Asynq's are never copied. They have the shape of Asynq's, as far as the sidecar looks at
it, and no more.
"""

from asynq_ttl.asynq.script_shape import Kind, Shape

COMPLETE = b"""
if redis.call("ZADD", KEYS[1], ARGV[2], ARGV[1]) == 0 then return redis.error_reply("INTERNAL") end
redis.call("HSET", KEYS[2], "msg", ARGV[3], "state", "completed")
return redis.status_reply("OK")
"""
ARCHIVE = b"""
if redis.call("LREM", KEYS[2], 0, ARGV[1]) == 0 then return redis.error_reply("NOT FOUND") end
redis.call("ZADD", KEYS[3], ARGV[3], ARGV[1])
redis.call("ZREMRANGEBYSCORE", KEYS[3], "-inf", ARGV[4])
redis.call("ZREMRANGEBYRANK", KEYS[3], 0, -ARGV[5])
redis.call("HSET", KEYS[1], "msg", ARGV[2], "state", "archived")
return redis.status_reply("OK")
"""
ARCHIVE_ONE = b"""
local state = redis.call("HGET", KEYS[1], "state")
if not state then return 0 end
redis.call("ZREM", ARGV[5] .. state, ARGV[1])
redis.call("ZADD", KEYS[2], ARGV[2], ARGV[1])
redis.call("HSET", KEYS[1], "state", "archived")
redis.call("ZREMRANGEBYSCORE", KEYS[2], "-inf", ARGV[3])
redis.call("ZREMRANGEBYRANK", KEYS[2], 0, -ARGV[4])
return 1
"""
ARCHIVE_ALL = b"""
for _, name in ipairs(redis.call("ZRANGE", KEYS[1], 0, -1)) do
  redis.call("ZADD", KEYS[2], ARGV[1], name)
  redis.call("HSET", ARGV[4] .. name, "state", "archived")
end
redis.call("ZREMRANGEBYSCORE", KEYS[2], "-inf", ARGV[2])
redis.call("ZREMRANGEBYRANK", KEYS[2], 0, -ARGV[3])
return redis.call("DEL", KEYS[1])
"""
RUN_ONE = b"""
if redis.call("HGET", KEYS[1], "state") == "active" then return -1 end
redis.call("LPUSH", KEYS[2], ARGV[1])
redis.call("HSET", KEYS[1], "state", "pending")
return 1
"""
RUN_ALL = b"""
local names = redis.call("ZRANGE", KEYS[1], 0, -1)
for _, name in ipairs(names) do
  redis.call("LPUSH", KEYS[2], name)
  redis.call("HSET", ARGV[1] .. name, "state", "pending")
end
redis.call("DEL", KEYS[1])
return #names
"""
DEQUEUE = b"""
local id = redis.call("RPOPLPUSH", KEYS[1], KEYS[3])
if not id then return nil end
redis.call("HSET", ARGV[2] .. id, "state", "active")
redis.call("ZADD", KEYS[4], ARGV[1], id)
return redis.call("HGET", ARGV[2] .. id, "msg")
"""
DEQUEUE_TIMED = b"""
local id = redis.call("RPOPLPUSH", KEYS[1], KEYS[3])
if not id then return nil end
redis.call("HSET", ARGV[2] .. id, "state", "active")
local found = redis.call("HMGET", ARGV[2] .. id, "msg", "timeout")
redis.call("ZADD", KEYS[4], ARGV[1] + found[2], id)
return found[1]
"""
DELETE_ALL = b"""
for _, name in ipairs(redis.call("ZRANGE", KEYS[1], 0, -1)) do
  redis.call("DEL", ARGV[1] .. name)
end
return redis.call("DEL", KEYS[1])
"""
JANITOR = b"""
local names = redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", ARGV[1], "LIMIT", 0, tonumber(ARGV[3]))
for _, name in ipairs(names) do
  redis.call("DEL", ARGV[2] .. name)
  redis.call("ZREM", KEYS[1], name)
end
return #names
"""
DONE = b"""
if redis.call("LREM", KEYS[1], 0, ARGV[1]) == 0 then return redis.error_reply("NOT FOUND") end
redis.call("ZREM", KEYS[2], ARGV[1])
if redis.call("GET", KEYS[5]) == ARGV[1] then redis.call("DEL", KEYS[5]) end
redis.call("DEL", KEYS[3])
return redis.call("INCR", KEYS[4])
"""
ENQUEUE = b"""
if redis.call("EXISTS", KEYS[1]) == 1 then return 0 end
redis.call("HSET", KEYS[1], "msg", ARGV[1], "state", "pending")
redis.call("LPUSH", KEYS[2], ARGV[2])
return 1
"""
ENQUEUE_UNIQUE = b"""
if not redis.call("SET", KEYS[1], ARGV[1], "NX", "EX", ARGV[2]) then return -1 end
if redis.call("EXISTS", KEYS[2]) == 1 then return 0 end
redis.call("HSET", KEYS[2], "msg", ARGV[3], "state", "scheduled", "unique_key", KEYS[1])
redis.call("ZADD", KEYS[3], ARGV[4], ARGV[1])
return 1
"""
RECORD = b"""
redis.call("ZREMRANGEBYRANK", KEYS[1], 0, -ARGV[3])
redis.call("ZADD", KEYS[1], ARGV[1], ARGV[2])
return redis.status_reply("OK")
"""
# It writes a terminal state into no index.
UNKNOWN = b'return redis.call("HSET", KEYS[1], "state", "archived")'
OTHER = b'return redis.call("GET", KEYS[1])'

SHAPES: dict[bytes, Shape] = {
    COMPLETE: Shape(Kind.COMPLETE, task_key=2, index_key=1, id_arg=1, time_arg=2, msg_arg=3),
    ARCHIVE: Shape(Kind.ARCHIVE, task_key=1, index_key=3, id_arg=1, msg_arg=2, time_arg=3, cutoff_arg=4, cap_arg=5),
    ARCHIVE_ONE: Shape(Kind.ARCHIVE_ONE, task_key=1, index_key=2, id_arg=1, time_arg=2, cutoff_arg=3, cap_arg=4),
    ARCHIVE_ALL: Shape(
        Kind.ARCHIVE_ALL,
        source_key=1,
        index_key=2,
        time_arg=1,
        cutoff_arg=2,
        cap_arg=3,
        prefix_arg=4,
        source_command="ZRANGE",
    ),
    RUN_ONE: Shape(Kind.RUN_ONE, task_key=1),
    RUN_ALL: Shape(Kind.RUN_ALL, source_key=1, pending_key=2, prefix_arg=1, source_command="ZRANGE"),
    DEQUEUE: Shape(Kind.DEQUEUE, source_key=1, active_key=3, lease_key=4, prefix_arg=2),
    DEQUEUE_TIMED: Shape(Kind.DEQUEUE_TIMED, source_key=1, active_key=3, lease_key=4, prefix_arg=2),
    DELETE_ALL: Shape(Kind.DELETE_ALL, source_key=1, prefix_arg=1, source_command="ZRANGE"),
    DONE: Shape(Kind.DONE, task_key=3, active_key=1, lease_key=2, id_arg=1),
    ENQUEUE: Shape(Kind.ENQUEUE, task_key=1, msg_arg=1),
    ENQUEUE_UNIQUE: Shape(Kind.ENQUEUE, task_key=2, lock_key=1, msg_arg=3),
    JANITOR: Shape(Kind.JANITOR, index_key=1, time_arg=1, prefix_arg=2, batch_arg=3),
    RECORD: Shape(Kind.RECORD, history_key=1),
}
