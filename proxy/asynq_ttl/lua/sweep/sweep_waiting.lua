-- Takes TTLs off one page of the waiting tasks of a queue. A dequeue would do it, but only once somebody takes the task.
-- KEYS[1]: the list `pending` or the set `retry`. ARGV: task key prefix, the state, first and last position, newest first.
-- Returns how many IDs were examined, and how many TTLs were taken off.
if redis.replicate_commands then
  redis.replicate_commands() -- effects are replicated, not the script: a TTL is asked for
end
local ids
if ARGV[2] == 'pending' then
  ids = redis.call('LRANGE', KEYS[1], ARGV[3], ARGV[4])
else
  ids = redis.call('ZREVRANGE', KEYS[1], ARGV[3], ARGV[4])
end
local persisted = 0
for _, id in ipairs(ids) do
  local key = ARGV[1] .. id
  -- Somebody who does not go through a sidecar ran the task again, so it still has the TTL of its earlier life.
  if redis.call('PTTL', key) >= 0 and redis.pcall('HGET', key, 'state') == ARGV[2] then
    persisted = persisted + redis.call('PERSIST', key)
  end
end
return {#ids, persisted}
