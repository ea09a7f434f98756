-- The task is live again: nothing live carries a TTL, or is held. Whether it was moved, its hash says.
local state = redis.pcall('HGET', KEYS[task_key], 'state')
if state == 'pending' or type(state) == 'table' and asynq_ttl_reply == 1 then
  redis.pcall('PERSIST', KEYS[task_key])
  redis.pcall('HDEL', KEYS[task_key], 'asynq_ttl_hold')
  asynq_ttl_restore(KEYS[task_key])
end
