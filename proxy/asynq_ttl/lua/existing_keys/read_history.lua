-- Reads the history of a scheduler entry.
-- KEYS[1]: its key. Returns its type, milliseconds that it has to live, and the score of what was added last, or nothing.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'zset' then
  return {kind, -2, ''}
end
return {kind, redis.call('PTTL', KEYS[1]), redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]}
