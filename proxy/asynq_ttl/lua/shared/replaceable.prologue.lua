-- Returns the mark of the rule by which an enqueue replaces the task that is at a key, which is 0 where the task stays: it is live, or
-- held, no rule says so, or another one has the lock that the new task takes. Then the task's lock, ID and state.
-- told: the sidecar's argument; lock: the key of that lock, nil without one.
local function asynq_ttl_replaceable(key, lock, told)
  local task = redis.pcall('HMGET', key, 'state', 'msg', 'unique_key', 'asynq_ttl_done', 'asynq_ttl_hold')
  local state, msg, added = task[1], task[2], task[4]
  if task.err or state ~= 'archived' and state ~= 'completed' then
    return 0
  end
  local id = string.sub(key, told.id_at)
  local holder = lock and redis.pcall('GET', lock)
  if holder and holder ~= id or asynq_ttl_is_held(told.queue .. state, id, task[5]) then
    return 0
  end
  local said = state
  if state == 'completed' and msg and added and #added > 0 and string.sub(msg, -#added) == added then
    -- A rule for tasks without a Retention has kept it.
    said = 'done'
  end
  local mark = asynq_ttl_pick(told[said], msg and asynq_ttl_type(msg) or nil, nil)
  return mark or 0, task[3], id, state
end
