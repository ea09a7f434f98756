-- Returns a task's state, or an error as a table.
local function asynq_ttl_look(key)
  return redis.pcall('HGET', key, 'state')
end
