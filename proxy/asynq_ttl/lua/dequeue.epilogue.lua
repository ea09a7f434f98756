-- The dequeued task is live again: nothing live carries a TTL. An ID without a message can never run (its hash
-- expired or was deleted while it was queued), so it is taken out of the active list and the lease. That a dequeue
-- took it shows in its state; where there is none, the hash of a running task is gone, which its worker can settle.
local asynq_ttl_id = redis.pcall('LINDEX', KEYS[active_key], 0)
if type(asynq_ttl_id) == 'string' then
  local key = ARGV[prefix_arg] .. asynq_ttl_id
  if asynq_ttl_reply then
    redis.pcall('PERSIST', key)
  elseif redis.pcall('HEXISTS', key, 'msg') == 0 and redis.pcall('HGET', key, 'state') == 'active' then
    redis.pcall('LREM', KEYS[active_key], 1, asynq_ttl_id)
    redis.pcall('ZREM', KEYS[lease_key], asynq_ttl_id)
    redis.pcall('DEL', key)
  end
end
