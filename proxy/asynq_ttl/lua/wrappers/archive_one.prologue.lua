-- A completed task that is held stays so in the archive.
local asynq_ttl_hold = redis.pcall('HGET', KEYS[task_key], 'asynq_ttl_hold')
if type(asynq_ttl_hold) == 'string' then
  local completed = string.sub(KEYS[index_key], 1, -1 - #'archived') .. 'completed'
  if redis.pcall('HGET', KEYS[task_key], 'state') ~= 'completed'
    or not asynq_ttl_is_held(completed, ARGV[id_arg], asynq_ttl_hold) then
    asynq_ttl_hold = nil
  end
else
  asynq_ttl_hold = nil
end
local asynq_ttl_now = tonumber(ARGV[time_arg])
ARGV[time_arg] = string.format('%.0f', asynq_ttl_now + asynq_ttl_behind(asynq_ttl_now))
-- A script that does not trim has no such argument (its position is 0, where ARGV has nothing).
local asynq_ttl_own = ARGV[cutoff_arg] and asynq_ttl_now - tonumber(ARGV[cutoff_arg]) or 7776000
local asynq_ttl_cap = tonumber(ARGV[cap_arg]) or 0
asynq_ttl_cap = asynq_ttl_cap > 0 and math.max(asynq_ttl_cap + cap_offset, 0) or -1
-- The script's own trims leave hashes behind; they find nothing to do, and the epilogue trims instead.
if ARGV[cutoff_arg] then
  ARGV[cutoff_arg] = '-inf'
end
if ARGV[cap_arg] then
  ARGV[cap_arg] = '1000000000'
end
