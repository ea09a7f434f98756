if type(asynq_ttl_reply) == 'table' and asynq_ttl_reply.ok then
  if asynq_ttl_ms == '0' then
    redis.pcall('PERSIST', KEYS[task_key])
  elseif asynq_ttl_ms == '-1' then
    redis.pcall('ZREM', KEYS[index_key], ARGV[id_arg])
    redis.pcall('DEL', KEYS[task_key])
  elseif asynq_ttl_ms ~= '-2' then
    redis.pcall('PEXPIRE', KEYS[task_key], asynq_ttl_ms)
  end
end
