-- The sidecar's argument: which ended tasks of the queue are replaced, as JSON. Nothing of it is looked at unless the ID belongs to
-- one. What is found there goes only if the script is certain to put the new task in its place: no other task holds the lock
-- that the script takes, and Redis takes what is written. Else the script finds what was there, and says so.
local asynq_ttl_replaceable = table.remove(ARGV)
local function asynq_ttl_replace()
  local task = redis.pcall('HMGET', KEYS[task_key], 'state', 'msg', 'unique_key', 'asynq_ttl_done')
  local state, msg, own_lock, added = task[1], task[2], task[3], task[4]
  if task.err or state ~= 'archived' and state ~= 'completed' then
    return
  end
  local told = cjson.decode(asynq_ttl_replaceable)
  local said, id = state, string.sub(KEYS[task_key], told.id_at)
  if state == 'completed' and msg and added and #added > 0 and string.sub(msg, -#added) == added then
    -- A rule for tasks without a Retention has kept it.
    said = 'done'
  end
  local task_type = msg and asynq_ttl_type(msg)
  local may = asynq_ttl_pick(told[said], task_type, nil)
  local lock = KEYS[lock_key]
  local holder = lock and redis.pcall('GET', lock)
  if may ~= 1 or holder and holder ~= id or type(redis.pcall('HSET', KEYS[task_key], 'state', state)) ~= 'number'
    or type(redis.pcall('DEL', KEYS[task_key])) ~= 'number' then
    return
  end
  local prefix = string.sub(KEYS[task_key], 1, told.id_at - 3)
  redis.pcall('ZREM', prefix .. 'archived', id)
  redis.pcall('ZREM', prefix .. 'completed', id)
  for _, held in ipairs({lock or own_lock, own_lock}) do
    if held and redis.pcall('GET', held) == id then
      redis.pcall('DEL', held)
    end
  end
end
asynq_ttl_replace()
