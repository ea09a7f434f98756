-- Holds ended tasks of one queue; see `hold.prologue.lua`, which comes first.
-- KEYS[1]: any key of the queue. ARGV: the prefix of its keys, then IDs.
-- Returns for each: `held`; `already`; `missing` where there is no such task; `foreign` where its key or index is of another
-- type; `stray` where its index does not name it; else the state it is in, which is none in which a task has ended.
if redis.replicate_commands then
  redis.replicate_commands() -- effects are replicated, not the script: the time is asked for
end
local now = redis.call('TIME')[1]
local function hold(id)
  local key = queue .. 't:' .. id
  wrong = {}
  local task = ask('HMGET', key, 'state', 'asynq_ttl_hold')
  if not task then
    return 'foreign'
  elseif ask('HSTRLEN', key, 'msg') == 0 then
    return 'missing'
  elseif task[1] ~= 'archived' and task[1] ~= 'completed' then
    return 'state ' .. (task[1] or '')
  end
  local index = queue .. task[1]
  local score = ask('ZSCORE', index, id)
  if #wrong > 0 then
    return 'foreign'
  elseif not score then
    return 'stray ' .. task[1]
  elseif asynq_ttl_is_held(index, id, task[2]) then
    return 'already'
  end
  local left = redis.call('PTTL', key)
  local clock = redis.call('TIME')
  local expires = left < 0 and '-1' or string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000) + left)
  redis.call('HSET', key, 'asynq_ttl_hold', score .. ' ' .. expires .. ' ' .. now)
  redis.call('PERSIST', key)
  redis.call('ZADD', index, 'XX', asynq_ttl_held_score, id)
  return 'held'
end
local results = {}
for number = 2, #ARGV do
  results[#results + 1] = hold(ARGV[number])
end
return results
