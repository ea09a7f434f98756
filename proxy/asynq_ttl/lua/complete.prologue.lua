-- The sidecar's argument: milliseconds to live; 0 for ever, -1 not at all, -2 as Asynq has it.
local asynq_ttl_ms = ARGV[#ARGV]
ARGV[#ARGV] = nil
-- A ghost of this ID in the index (from an earlier life) would make the script fail half-way.
if redis.pcall('ZSCORE', KEYS[index_key], ARGV[id_arg]) then
  local state = redis.pcall('HGET', KEYS[task_key], 'state')
  if state ~= 'completed' and type(state) ~= 'table' then
    redis.pcall('ZREM', KEYS[index_key], ARGV[id_arg])
  end
end
