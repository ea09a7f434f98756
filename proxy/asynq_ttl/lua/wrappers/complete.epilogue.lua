if asynq_ttl_ended('completed') then
  if asynq_ttl_ms == '0' then
    redis.pcall('PERSIST', KEYS[task_key])
  elseif asynq_ttl_ms == '-1' then
    if type(redis.pcall('DEL', KEYS[task_key])) == 'number' then
      redis.pcall('ZREM', KEYS[index_key], ARGV[id_arg])
    end
  elseif asynq_ttl_ms ~= '-2' then
    redis.pcall('PEXPIRE', KEYS[task_key], asynq_ttl_ms)
  end
end
