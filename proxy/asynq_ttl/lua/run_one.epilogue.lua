-- The task is live again: nothing live carries a TTL.
if asynq_ttl_reply == 1 then
  redis.pcall('PERSIST', KEYS[task_key])
end
