if asynq_ttl_ended('archived') then
  local index = KEYS[index_key]
  local prefix = string.sub(KEYS[task_key], 1, -1 - #ARGV[id_arg])
  if asynq_ttl_ms == '0' then
    redis.pcall('PERSIST', KEYS[task_key])
  elseif asynq_ttl_ms == '-1' then
    asynq_ttl_remove(index, prefix, {ARGV[id_arg]})
  elseif asynq_ttl_ms ~= '-2' then
    redis.pcall('PEXPIRE', KEYS[task_key], asynq_ttl_ms)
  end
  asynq_ttl_trim(index, prefix, asynq_ttl_now, asynq_ttl_cutoff, tonumber(asynq_ttl_cap), asynq_ttl_spare == '1',
    tonumber(asynq_ttl_grace))
end
