-- Changes tasks of one queue, each only if it is still as it was when that was decided.
-- KEYS[1]: any key of the queue. ARGV: what its keys start with, then nine for each task:
--   ID; the state whose index is concerned, or nothing; the state the task has, or nothing;
--   its score in the index, `-` where it is not in it, or nothing; its digest, or nothing;
--   `none`, `some` or `any`: whether its key has a TTL;
--   `ttl`, `persist`, `remove` or `drop`; when the key expires (milliseconds); its new score, or nothing.
-- Returns for each: 1 changed, 0 it is no longer what it was, 2 it is so already.
local function unchanged(id, task, state, score, now_score, same, timed, left, action)
  if (task[1] or '') ~= state then
    return false
  elseif score == '-' and now_score or score ~= '-' and score ~= '' and score ~= now_score then
    return false
  elseif timed == 'none' and left ~= -1 or timed == 'some' and left < 0 or left == -2 then
    return false
  elseif state == '' and action == 'remove' then
    -- A hash without a state: its worker may still be at it, and can settle it, as long as it has a lease.
    if redis.call('ZSCORE', queue .. 'lease', id) or redis.call('ZSCORE', queue .. 'deadlines', id) then
      return false
    end
  end
  return same == '' or same == digest(queue .. 't:' .. id)
end
local function remove(key, index, id, lock)
  redis.call('DEL', key)
  if index ~= '' then
    redis.call('ZREM', queue .. index, id)
  end
  if lock and redis.call('GET', lock) == id then
    redis.call('DEL', lock)
  end
end
local function settle(id, index, state, score, same, timed, action, value, new_score)
  local key = queue .. 't:' .. id
  local task = redis.call('HMGET', key, 'state', 'unique_key')
  local now_score = index ~= '' and redis.call('ZSCORE', queue .. index, id)
  local left = redis.call('PTTL', key)
  if action == 'drop' then
    -- A ghost: the hash is gone, or belongs to a later life of the ID. Only the entry goes.
    if not now_score then
      return 2
    elseif now_score ~= score or task[1] == index then
      return 0
    end
    redis.call('ZREM', queue .. index, id)
    return 1
  end
  if not unchanged(id, task, state, score, now_score, same, timed, left, action) then
    if action == 'remove' then
      return left == -2 and not now_score and 2 or 0
    end
    local settled = action == 'ttl' and left >= 0 or action == 'persist' and left == -1
    local placed = score == '-' or score == '' or now_score == (new_score ~= '' and new_score or score)
    return settled and placed and task[1] == state and 2 or 0
  end
  if action == 'remove' then
    remove(key, index, id, task[2])
  elseif action == 'persist' then
    redis.call('PERSIST', key)
  else
    redis.call('PEXPIREAT', key, value)
    if redis.call('EXISTS', key) == 0 then
      -- Its time was over already. It goes with its entry, or that would be a ghost.
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
  results[#results + 1] = settle(unpack(ARGV, at, at + 8))
end
return results
