-- Any other entries that are too old or too many. It goes in steps of at most 1,000 (the limit of unpack is about 8,000)
-- and does at most ten of them, so that Redis is never held up for long; what is left goes with the next call.
local spare, grace = string.match(rest, '^(%S+) (%S+)$')
spare, grace = spare == '1', tonumber(grace)
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
end
local count, cap = over[1] and redis.pcall('ZCARD', index), over[1] and -1 - high
if type(count) == 'number' and count - held > cap then
  clear(count - held - cap, function(passed, size)
    -- Where entries are passed over, those that are wanted may come after any number of them.
    return redis.pcall('ZRANGE', index, passed, passed + (spare and passed > 0 and 1000 or size) - 1)
  end, (spare or held > 0) and function(id)
    local left = spare and redis.pcall('PTTL', prefix .. id)
    return (not spare or type(left) == 'number' and left ~= -1)
      and (held == 0 or not asynq_ttl_is_held(index, id, redis.pcall('HGET', prefix .. id, 'asynq_ttl_hold')))
  end)
end
