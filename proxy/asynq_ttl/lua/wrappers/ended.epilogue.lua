-- Says whether the task is in a terminal state now: whatever the script answers to say so, its hash does. A script that moves
-- a task only under some condition may answer the same if it does not.
local function asynq_ttl_ended(state)
  local reply = asynq_ttl_reply
  if type(reply) == 'table' and reply.err then
    return false
  end
  local found = redis.pcall('HGET', KEYS[task_key], 'state')
  if type(found) == 'table' then
    return type(reply) == 'table' and reply.ok ~= nil
  end
  return found == state
end
