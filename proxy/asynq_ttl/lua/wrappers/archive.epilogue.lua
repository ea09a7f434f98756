-- The sidecar's argument: milliseconds to live (0 for ever, -1 not at all, -2 as Asynq has it), then how the archive is trimmed,
-- see `trim.prologue`.
if asynq_ttl_ended then
  local ms, cutoff, low, high, rest = string.match(asynq_ttl_own, '^(%S+) (%S+) (%S+) (%S+) (.*)$')
  local index, key = KEYS[index_key], KEYS[task_key]
  local prefix = string.sub(key, 1, -1 - #ARGV[id_arg])
  if ms == '0' then
    redis.pcall('PERSIST', key)
  elseif ms == '-1' then
    asynq_ttl_remove(index, prefix, {ARGV[id_arg]})
  elseif ms ~= '-2' then
    redis.pcall('PEXPIRE', key, ms)
  end
  asynq_ttl_trim(index, prefix, cutoff, low, high, rest)
end
