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
