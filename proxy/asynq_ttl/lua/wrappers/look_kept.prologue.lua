-- Returns a task's state, or an error as a table; and what was added to its message when it was kept without a Retention.
local function asynq_ttl_look(key)
  local found = redis.pcall('HMGET', key, 'state', 'asynq_ttl_done')
  if found.err then
    return found
  end
  return found[1], found[2]
end
