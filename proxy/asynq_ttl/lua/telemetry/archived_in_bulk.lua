-- Looks at tasks that a command has archived in bulk, a page of them: which have a TTL, and which have none. Stands behind
-- `wrappers/clock.prologue`, and has the idea of a caller's clock that `wrappers/own.prologue` has.
-- KEYS[1]: the archive. ARGV: the prefix of task keys, the time of death that the command gave, how many were looked at
-- before, how many to look at, how many to name.
-- Returns how many entries were looked at, how many of the tasks have a TTL, how many none, and some of their IDs.
local oldest = tonumber(ARGV[2])
local newest, behind = oldest, (asynq_ttl_time() or oldest) - oldest
if behind > 10 and behind <= 86400 then
  newest = oldest + behind
  -- They got the time of Redis instead, a moment ago.
  oldest = newest - 2
end
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', oldest), string.format('%.0f', newest),
  'LIMIT', ARGV[3], ARGV[4])
local timed, untimed, named = 0, 0, {}
for _, id in ipairs(ids) do
  local left = redis.call('PTTL', ARGV[1] .. id)
  if left >= 0 then
    timed = timed + 1
  elseif left == -1 then
    untimed = untimed + 1
  end
  if left ~= -2 and #named < tonumber(ARGV[5]) then
    named[#named + 1] = id
  end
end
return {#ids, timed, untimed, named}
