-- Changes tasks of one queue, each only if it is still as it was when the change was decided.
-- KEYS[1]: any key of the queue. ARGV: the prefix of its keys, then nine for each task:
--   ID; the state whose index is concerned, or nothing; the state of the task, or nothing;
--   its score in the index, `-` where it is not in it, or nothing where that does not matter;
--   the digest of its message, or nothing where that does not matter;
--   `none`, `some` or `any`: whether its key has a TTL;
--   `ttl`, `persist`, `remove` or `drop`; when the key expires (Unix milliseconds); its new score, or nothing.
-- Returns for each: 1 changed, 0 it is no longer what it was, 2 it is already as it is to become.
local function unchanged(id, task, state, score, score_now, message, timed, ttl_ms, action)
  if (task[1] or '') ~= state then
    return false
  elseif score == '-' and score_now or score ~= '-' and score ~= '' and score ~= score_now then
    return false
  elseif timed == 'none' and ttl_ms ~= -1 or timed == 'some' and ttl_ms < 0 or ttl_ms == -2 then
    return false
  elseif state == '' and action == 'remove' then
    -- A hash without a state: while it has a lease, its worker may still complete, retry or archive the task.
    if ask('ZSCORE', queue .. 'lease', id) or ask('ZSCORE', queue .. 'deadlines', id) or #wrong > 0 then
      return false
    end
  end
  return message == '' or message == digest(queue .. 't:' .. id)
end
local function remove(key, index, id, lock)
  redis.call('DEL', key)
  if index ~= '' then
    redis.call('ZREM', queue .. index, id)
  end
  if lock and ask('GET', lock) == id then
    redis.call('DEL', lock)
  end
end
local function change(id, index, state, score, message, timed, action, expires_at_ms, new_score)
  local key = queue .. 't:' .. id
  wrong = {}
  local task = ask('HMGET', key, 'state', 'unique_key')
  local score_now = index ~= '' and ask('ZSCORE', queue .. index, id)
  if #wrong > 0 then
    -- The task's key or its index is of another type: nobody can tell whether the task is as it was.
    return 0
  end
  local ttl_ms = redis.call('PTTL', key)
  if action == 'drop' then
    -- A ghost: the hash is gone, or belongs to a later life of the ID. Only the entry goes.
    if not score_now then
      return 2
    elseif score_now ~= score or task[1] == index then
      return 0
    end
    redis.call('ZREM', queue .. index, id)
    return 1
  end
  if not unchanged(id, task, state, score, score_now, message, timed, ttl_ms, action) then
    if action == 'remove' then
      return ttl_ms == -2 and not score_now and 2 or 0
    end
    local has_it = action == 'ttl' and ttl_ms >= 0 or action == 'persist' and ttl_ms == -1
    local placed = score == '-' or score == '' or score_now == (new_score ~= '' and new_score or score)
    return has_it and placed and task[1] == state and 2 or 0
  end
  if action == 'remove' then
    remove(key, index, id, task[2])
  elseif action == 'persist' then
    redis.call('PERSIST', key)
  else
    redis.call('PEXPIREAT', key, expires_at_ms)
    if redis.call('EXISTS', key) == 0 then
      -- Its time was over already. Its entry goes with it: left behind, that would be a ghost.
      remove(key, index, id, task[2])
      return 1
    end
  end
  if new_score ~= '' and action ~= 'remove' then
    redis.call('ZADD', queue .. index, 'XX', new_score, id)
  end
  return 1
end
local results = {}
for at = 2, #ARGV, 9 do
  results[#results + 1] = change(unpack(ARGV, at, at + 8))
end
return results
