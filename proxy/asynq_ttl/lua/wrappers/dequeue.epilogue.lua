-- The dequeued task is live again: nothing live carries a TTL. Its ID is read from the message (field 3, after type and
-- payload), which is quicker than to ask for it; where the message is not of that form, or the queue's head was nothing
-- that can run, it is asked for.
local asynq_ttl_id
if type(asynq_ttl_reply) == 'string' then
  local tag, size = string.byte(asynq_ttl_reply, 1, 2)
  if tag == 10 and size < 128 then
    local at = size + 3
    local low, high
    tag, low, high = string.byte(asynq_ttl_reply, at, at + 2)
    if tag == 18 and low < 128 then
      at = at + 2 + low
    elseif tag == 18 and high < 128 then
      at = at + 3 + low - 128 + high * 128
    end
    tag, size = string.byte(asynq_ttl_reply, at, at + 1)
    if tag == 26 and size < 128 then
      asynq_ttl_id = string.sub(asynq_ttl_reply, at + 2, at + 1 + size)
    end
  end
end
if type(asynq_ttl_reply) == 'table' and #asynq_ttl_reply > 0 then
  -- Several were taken at once: they are the newest active ones.
  for _, id in ipairs(redis.pcall('LRANGE', KEYS[active_key], 0, #asynq_ttl_reply - 1)) do
    redis.pcall('PERSIST', ARGV[prefix_arg] .. id)
  end
else
  asynq_ttl_id = asynq_ttl_id or redis.pcall('LINDEX', KEYS[active_key], '0')
end
if type(asynq_ttl_id) == 'string' then
  local key = ARGV[prefix_arg] .. asynq_ttl_id
  if asynq_ttl_reply then
    redis.pcall('PERSIST', key)
  -- An ID without a message can never run (its hash expired or was deleted while it was queued), so it is taken out of
  -- the active list and the lease. That a dequeue took it shows in its state; where there is none, the hash of a running
  -- task is gone, which its worker can settle.
  elseif redis.pcall('HEXISTS', key, 'msg') == 0 and redis.pcall('HGET', key, 'state') == 'active' then
    redis.pcall('LREM', KEYS[active_key], 1, asynq_ttl_id)
    redis.pcall('ZREM', KEYS[lease_key], asynq_ttl_id)
    redis.pcall('DEL', key)
  end
end
