-- Removes archived tasks: hash, uniqueness lock if the task still holds it, and index entry. Of an entry whose
-- hash is gone or belongs to a later life of the ID, only the entry goes; one that cannot be looked at stays.
-- Returns how many entries are gone.
local function asynq_ttl_remove(index, prefix, ids)
  local removed = {}
  for _, id in ipairs(ids) do
    local task = redis.pcall('HMGET', prefix .. id, 'state', 'unique_key')
    if not task.err then
      removed[#removed + 1] = id
    end
    if task[1] == 'archived' then
      redis.pcall('DEL', prefix .. id)
      if task[2] and redis.pcall('GET', task[2]) == id then
        redis.pcall('DEL', task[2])
      end
    end
  end
  local count = #removed > 0 and redis.pcall('ZREM', index, unpack(removed))
  return type(count) == 'number' and count or 0
end
-- Trims the archive, oldest first, up to a score and down to a number of entries. It goes in steps of 1,000 (the
-- limit of unpack is about 8,000) and does at most ten of them, so that Redis is never held up for long; what is
-- left goes with the next call.
local function asynq_ttl_trim(index, prefix, cutoff, cap, spare)
  local steps = 0
  while cutoff ~= '-' and steps < 10 do
    local due = redis.pcall('ZRANGEBYSCORE', index, '-inf', cutoff, 'LIMIT', '0', '1000')
    if #due == 0 or asynq_ttl_remove(index, prefix, due) == 0 then
      break
    end
    steps = steps + 1
  end
  if cap < 0 then
    return
  end
  local count = redis.pcall('ZCARD', index)
  local extra = type(count) == 'number' and count - cap or 0
  local passed = 0
  while extra > 0 and steps < 10 do
    local oldest = redis.pcall('ZRANGE', index, passed, passed + math.min(extra, 1000) - 1)
    if #oldest == 0 then
      break
    end
    local ids = {}
    for _, id in ipairs(oldest) do
      local left = spare and redis.pcall('PTTL', prefix .. id)
      if not spare or (type(left) == 'number' and left ~= -1) then
        ids[#ids + 1] = id
      end
    end
    local removed = asynq_ttl_remove(index, prefix, ids)
    extra = extra - removed
    passed = passed + #oldest - removed
    steps = steps + 1
  end
end
