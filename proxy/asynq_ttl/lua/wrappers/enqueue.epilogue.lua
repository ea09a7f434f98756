-- The script refuses where its task's ID is taken, or its lock is. Where a rule says that the task with this ID is replaced, that one
-- is put aside and the script runs again: either the new task is there then and the old one is gone, with entry and lock, or all
-- is as the script has left it. A caller who may not do all of this does nothing of it. The first write changes nothing: past
-- `maxmemory` Redis refuses it as it would refuse an enqueue, but not what follows.
local function asynq_ttl_replace()
  local told, key, lock = cjson.decode(asynq_ttl_told), KEYS[task_key], lock_taken
  local mark, own_lock, id, state = asynq_ttl_replaceable(key, lock, told)
  local aside, locked = told.queue .. 'asynq-ttl-aside', lock and redis.pcall('EXISTS', lock) == 1
  if mark == 0 or type(redis.pcall('HSET', key, 'state', state)) ~= 'number'
    or type(redis.pcall('DEL', aside, aside .. '-lock')) ~= 'number'
    or type(redis.pcall('ZREM', told.queue .. 'archived', '')) ~= 'number'
    or type(redis.pcall('ZREM', told.queue .. 'completed', '')) ~= 'number'
    or redis.pcall('RENAME', key, aside).err then
    return
  end
  local added = nil
  if not locked or not redis.pcall('RENAME', lock, aside .. '-lock').err then
    local ran, reply = pcall(asynq_ttl_original)
    added = ran and reply == 1
  end
  if not added then
    -- The script may have failed after it had listed the new task.
    for _, index in ipairs(KEYS) do
      redis.pcall('ZREM', index, id)
    end
    redis.pcall('RENAME', aside, key)
    if locked then
      redis.pcall('RENAME', aside .. '-lock', lock)
    end
    return
  end
  redis.pcall('DEL', aside, aside .. '-lock')
  redis.pcall('ZREM', told.queue .. 'archived', id)
  redis.pcall('ZREM', told.queue .. 'completed', id)
  if own_lock and own_lock ~= lock and redis.pcall('GET', own_lock) == id then
    redis.pcall('DEL', own_lock)
  end
  -- The script's own reply is 1. The sidecar takes note of this one, and gives that one to the client.
  asynq_ttl_reply = mark
end
if asynq_ttl_reply == 0 or asynq_ttl_reply == -1 then
  asynq_ttl_replace()
end
