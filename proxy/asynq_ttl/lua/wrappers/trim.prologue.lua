-- Removes archived tasks: hash, uniqueness lock if the task still holds it, and index entry. Of an entry whose
-- hash is gone or belongs to a later life of the ID, only the entry goes; one that cannot be looked at, whose hash cannot be
-- deleted, or that is held, stays. Returns how many entries are gone.
local function asynq_ttl_remove(index, prefix, ids)
  local removed = {}
  for _, id in ipairs(ids) do
    local task = redis.pcall('HMGET', prefix .. id, 'state', 'unique_key', 'asynq_ttl_hold')
    if task[1] == 'archived' then
      if not asynq_ttl_is_held(index, id, task[3]) and type(redis.pcall('DEL', prefix .. id)) == 'number' then
        removed[#removed + 1] = id
        if task[2] and redis.pcall('GET', task[2]) == id then
          redis.pcall('DEL', task[2])
        end
      end
    elseif not task.err and asynq_ttl_elsewhere(task[1], 'archived') then
      removed[#removed + 1] = id
    end
  end
  local count = #removed > 0 and redis.pcall('ZREM', index, unpack(removed))
  return type(count) == 'number' and count or 0
end
-- Trims the archive, oldest first, up to a score and down to a number of entries. It goes in steps of at most 1,000 (the
-- limit of unpack is about 8,000) and does at most ten of them, so that Redis is never held up for long; what is
-- left goes with the next call.
-- now: what the caller's clock says, by which the score is. spare: entries without a TTL stay, whatever their number.
local function asynq_ttl_trim(index, prefix, now, cutoff, cap, spare, grace)
  local steps = 0
  local function clear(most, read, wanted)
    local passed = 0
    while most > 0 and steps < 10 do
      local oldest = read(passed, math.min(most, 1000))
      if #oldest == 0 then
        break
      end
      local ids = {}
      for _, id in ipairs(oldest) do
        if #ids < most and wanted(id) then
          ids[#ids + 1] = id
        end
      end
      local removed = asynq_ttl_remove(index, prefix, ids)
      most = most - removed
      passed = passed + #oldest - removed
      steps = steps + 1
    end
  end
  if cutoff ~= '-' then
    -- A caller whose clock is ahead must not take what is not old enough.
    local score = tonumber(cutoff) - math.max(now - (asynq_ttl_clock or now), 0)
    clear(math.huge, function(passed, size)
      return redis.pcall('ZRANGEBYSCORE', index, '-inf', string.format('%.0f', score), 'LIMIT', passed, size)
    end, function(id)
      -- Scores are whole seconds. What has less than one of them left of its retention stays for that long.
      local left = redis.pcall('PTTL', prefix .. id)
      return type(left) == 'number' and (left <= grace * 1000 or left > grace * 1000 + 1000)
    end)
  end
  local count = cap >= 0 and redis.pcall('ZCARD', index)
  if type(count) == 'number' and count > cap then
    -- What is held is the newest by its score, and counts for nothing: it pushes nothing out.
    local held = redis.pcall('ZCOUNT', index, asynq_ttl_held_score, asynq_ttl_held_score)
    count = count - (type(held) == 'number' and held or 0)
    clear(count - cap, function(passed, size)
      -- Where entries are passed over, those that are wanted may come after any number of them.
      return redis.pcall('ZRANGE', index, passed, passed + (spare and passed > 0 and 1000 or size) - 1)
    end, function(id)
      local left = spare and redis.pcall('PTTL', prefix .. id)
      return not spare or type(left) == 'number' and left ~= -1
    end)
  end
end
