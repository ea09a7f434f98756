-- Removes archived tasks: hash, uniqueness lock if the task still holds it, and index entry. Of an entry whose hash is gone or
-- belongs to a later life of the ID, only the entry goes; one that cannot be looked at, or whose hash cannot be deleted, stays.
-- None of them may be held. Returns how many entries are gone.
local function asynq_ttl_remove(index, prefix, ids)
  local removed, keys, locks, holders = {}, {}, {}, {}
  for _, id in ipairs(ids) do
    local key = prefix .. id
    local state = redis.pcall('HGET', key, 'state')
    if state == 'archived' then
      keys[#keys + 1], holders[#holders + 1] = key, id
      locks[#locks + 1] = redis.pcall('HGET', key, 'unique_key')
    elseif asynq_ttl_elsewhere(state, 'archived') then
      removed[#removed + 1] = id
    end
  end
  if #keys > 0 and type(redis.pcall('DEL', unpack(keys))) == 'number' then
    for position, id in ipairs(holders) do
      removed[#removed + 1] = id
      local lock = locks[position]
      if type(lock) == 'string' and redis.pcall('GET', lock) == id then
        redis.pcall('DEL', lock)
      end
    end
  end
  local count = #removed > 0 and redis.pcall('ZREM', index, unpack(removed))
  return type(count) == 'number' and count or 0
end
-- Trims the archive, oldest first, up to a score and down to a number of entries. It goes in steps of at most 1,000 (the
-- limit of unpack is about 8,000) and does at most ten of them, so that Redis is never held up for long; what is
-- left goes with the next call.
-- spare: entries without a TTL stay, whatever their number.
local function asynq_ttl_trim(index, prefix, cutoff, cap, spare, grace)
  if asynq_ttl_ahead > 0 and cutoff ~= '-' then
    -- A caller whose clock is ahead must not take what is not old enough.
    cutoff = string.format('%.0f', cutoff - asynq_ttl_ahead)
  end
  local old = cutoff ~= '-' and redis.pcall('ZRANGEBYSCORE', index, '-inf', cutoff, 'LIMIT', '0', '1')[1]
  local count = cap >= 0 and redis.pcall('ZCARD', index)
  local full, held = type(count) == 'number' and count > cap, 0
  if full then
    -- What is held is the newest by its score, and counts for nothing: it pushes nothing out.
    held = redis.pcall('ZCOUNT', index, asynq_ttl_held_score, asynq_ttl_held_score)
    held = type(held) == 'number' and held or 0
    full = count - held > cap
  end
  if not old and (not full or not spare and held == 0 and count == cap + 1
    and asynq_ttl_remove(index, prefix, redis.pcall('ZRANGE', index, '0', '0')) == 1) then
    -- Nearly always there are no more than may be, or one of them.
    return
  end
  local steps = 0
  local function clear(most, read, wanted)
    local passed = 0
    while most > 0 and steps < 10 do
      local oldest = read(passed, math.min(most, 1000))
      if #oldest == 0 then
        break
      end
      local ids = oldest
      if wanted then
        ids = {}
        for _, id in ipairs(oldest) do
          if #ids < most and wanted(id) then
            ids[#ids + 1] = id
          end
        end
      end
      local removed = asynq_ttl_remove(index, prefix, ids)
      most = most - removed
      passed = passed + #oldest - removed
      steps = steps + 1
    end
  end
  if old then
    local last = math.min(tonumber(cutoff), tonumber(asynq_ttl_held_score) - 1)
    clear(math.huge, function(passed, size)
      return redis.pcall('ZRANGEBYSCORE', index, '-inf', string.format('%.0f', last), 'LIMIT', passed, size)
    end, function(id)
      -- Scores are whole seconds. What has less than one of them left of its retention stays for that long.
      local left = redis.pcall('PTTL', prefix .. id)
      return type(left) == 'number' and (left <= grace * 1000 or left > grace * 1000 + 1000)
    end)
    count = redis.pcall('ZCARD', index)
  end
  if full and type(count) == 'number' and count - held > cap then
    clear(count - held - cap, function(passed, size)
      -- Where entries are passed over, those that are wanted may come after any number of them.
      return redis.pcall('ZRANGE', index, passed, passed + (spare and passed > 0 and 1000 or size) - 1)
    end, (spare or held > 0) and function(id)
      local left = spare and redis.pcall('PTTL', prefix .. id)
      return (not spare or type(left) == 'number' and left ~= -1)
        and (held == 0 or not asynq_ttl_is_held(index, id, redis.pcall('HGET', prefix .. id, 'asynq_ttl_hold')))
    end)
  end
end
