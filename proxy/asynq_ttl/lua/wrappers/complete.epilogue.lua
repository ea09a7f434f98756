-- The sidecar's argument: milliseconds to live; 0 for ever, -1 not at all, -2 as Asynq has it.
if asynq_ttl_ended then
  if asynq_ttl_own == '0' then
    redis.pcall('PERSIST', KEYS[task_key])
  elseif asynq_ttl_own == '-1' then
    if type(redis.pcall('DEL', KEYS[task_key])) == 'number' then
      redis.pcall('ZREM', KEYS[index_key], ARGV[id_arg])
    end
  elseif asynq_ttl_own ~= '-2' then
    redis.pcall('PEXPIRE', KEYS[task_key], asynq_ttl_own)
  end
end
