-- Ends holds of tasks of one queue; see `hold.prologue.lua`, which comes first.
-- KEYS[1]: any key of the queue. ARGV: the prefix of its keys, how many milliseconds the key of a task lives on whose time is over,
-- then five for each task: ID; the state in which it was read; what its hash said of the hold; when its key expires (Unix
-- milliseconds, -1 for never); its score in the index.
-- Returns for each: 1 released, 2 released and its time is over, 0 it is no longer what it was.
if redis.replicate_commands then
  redis.replicate_commands() -- effects are replicated, not the script: the time is asked for
end
local function release(id, state, hold, expires, score)
  local key = queue .. 't:' .. id
  wrong = {}
  local task = ask('HMGET', key, 'state', 'asynq_ttl_hold')
  if not task or task[1] ~= state or task[2] ~= hold or not asynq_ttl_is_held(queue .. state, id, hold) then
    return 0
  end
  local clock = redis.call('TIME')
  local left = tonumber(expires) - clock[1] * 1000 - clock[2] / 1000
  local over = expires ~= '-1' and left < tonumber(ARGV[2])
  redis.call('ZADD', queue .. state, 'XX', score, id)
  redis.call('HDEL', key, 'asynq_ttl_hold')
  if expires ~= '-1' then
    redis.call('PEXPIRE', key, over and ARGV[2] or string.format('%.0f', left))
  end
  return over and 2 or 1
end
local results = {}
for at = 3, #ARGV, 5 do
  results[#results + 1] = release(unpack(ARGV, at, at + 4))
end
return results
