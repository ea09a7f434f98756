-- Whether the task is in a terminal state now. Where the script is known to answer OK only once it has written the state, that says so.
-- Otherwise, whatever the script answers, its hash does: a script that moves a task only under some condition may answer the same if it
-- does not.
local asynq_ttl_ended = says_ended and type(asynq_ttl_reply) == 'table' and asynq_ttl_reply.ok ~= nil
if not asynq_ttl_ended and not (type(asynq_ttl_reply) == 'table' and asynq_ttl_reply.err) then
  local found = redis.pcall('HGET', KEYS[task_key], 'state')
  if type(found) == 'table' then
    asynq_ttl_ended = type(asynq_ttl_reply) == 'table' and asynq_ttl_reply.ok ~= nil
  else
    asynq_ttl_ended = found == 'end_state'
  end
end
