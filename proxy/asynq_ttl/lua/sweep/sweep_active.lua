-- Repairs the IDs of a queue that have been active for longest: nothing of Asynq's does.
-- KEYS: active list, leases, deadlines (before v0.22). ARGV: task key prefix, number of IDs, the score below which a
-- lease is over.
-- Returns how many IDs were examined, how many TTLs were taken off, and how many IDs without a task were dropped.
local ids = redis.call('LRANGE', KEYS[1], -tonumber(ARGV[2]), -1)
local persisted, dropped = 0, 0
-- Returns when the lease of an ID ends. Where a key of another type hides that, the ID stays.
local function lease_of(id)
  for number = 2, 3 do
    local score = redis.pcall('ZSCORE', KEYS[number], id)
    if score then
      return type(score) == 'string' and tonumber(score) or math.huge
    end
  end
  return -math.huge
end
for _, id in ipairs(ids) do
  local key = ARGV[1] .. id
  local is_task = redis.pcall('HEXISTS', key, 'msg')
  if is_task == 1 then
    -- Somebody who does not go through a sidecar ran the task again, so it still has the TTL of its earlier life.
    persisted = persisted + redis.call('PERSIST', key)
  elseif is_task == 0 then
    -- No hash: as long as the lease lasts a worker may still be at the task, and can still end it. A hash with a state
    -- and no message: a dequeue took an ID whose hash was gone, and no worker has it.
    if lease_of(id) < tonumber(ARGV[3]) or redis.call('HGET', key, 'state') == 'active' then
      redis.call('LREM', KEYS[1], -1, id)
      redis.pcall('ZREM', KEYS[2], id)
      redis.pcall('ZREM', KEYS[3], id)
      redis.call('DEL', key)
      dropped = dropped + 1
    end
  end
end
return {#ids, persisted, dropped}
