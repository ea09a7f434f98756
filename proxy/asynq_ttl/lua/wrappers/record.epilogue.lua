if type(asynq_ttl_reply) ~= 'table' or not asynq_ttl_reply.err then
  redis.pcall('PEXPIRE', KEYS[history_key], asynq_ttl_ms)
end
