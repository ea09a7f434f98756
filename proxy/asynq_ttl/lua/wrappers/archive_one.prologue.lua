-- A completed task that is held stays so in the archive.
local asynq_ttl_hold = redis.pcall('HGET', KEYS[task_key], 'asynq_ttl_hold')
if type(asynq_ttl_hold) ~= 'string' or not asynq_ttl_holds(asynq_ttl_hold) then
  asynq_ttl_hold = nil
end
