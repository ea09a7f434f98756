-- The sidecar's argument: milliseconds to live (0 for ever, -1 not at all, -2 as Asynq has it), and when the task completed.
local asynq_ttl_ms, asynq_ttl_now = string.match(ARGV[#ARGV], '^(%S+) (%S+)$')
ARGV[#ARGV] = nil
if tonumber(asynq_ttl_ms) > 0 then
  -- A janitor goes by the score: where it is by a clock that is behind, the task would go too early.
  ARGV[time_arg] = string.format('%.0f', tonumber(ARGV[time_arg]) + asynq_ttl_behind(tonumber(asynq_ttl_now)))
end
-- A ghost of this ID in the index (from an earlier life) would make the script fail half-way.
if redis.pcall('ZSCORE', KEYS[index_key], ARGV[id_arg]) then
  local state = redis.pcall('HGET', KEYS[task_key], 'state')
  if state ~= 'completed' and type(state) ~= 'table' then
    redis.pcall('ZREM', KEYS[index_key], ARGV[id_arg])
  end
end
