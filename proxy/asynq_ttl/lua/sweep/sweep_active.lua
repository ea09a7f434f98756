-- Looks after the longest active IDs of a queue, which nothing of Asynq's repairs.
-- KEYS: active list, leases, deadlines (before v0.22). ARGV: task key prefix, number of IDs, the score below which a
-- lease is over. Returns the number of IDs looked at, of TTLs taken off, and of IDs without a task that were dropped.
local ids = redis.call('LRANGE', KEYS[1], -tonumber(ARGV[2]), -1)
local persisted, dropped = 0, 0
for _, id in ipairs(ids) do
  local key = ARGV[1] .. id
  if redis.call('HEXISTS', key, 'msg') == 1 then
    -- Somebody who does not go through a sidecar ran the task again, and it kept the TTL of its earlier life.
    persisted = persisted + redis.call('PERSIST', key)
  else
    -- No hash: its worker may still be at it, and can settle it, as long as it has the lease. With a state and no
    -- message, a dequeue took an ID whose hash was gone, and no worker has it.
    local lease = tonumber(redis.call('ZSCORE', KEYS[2], id) or redis.call('ZSCORE', KEYS[3], id) or '-inf')
    if lease < tonumber(ARGV[3]) or redis.call('HGET', key, 'state') == 'active' then
      redis.call('LREM', KEYS[1], -1, id)
      redis.call('ZREM', KEYS[2], id)
      redis.call('ZREM', KEYS[3], id)
      redis.call('DEL', key)
      dropped = dropped + 1
    end
  end
end
return {#ids, persisted, dropped}
