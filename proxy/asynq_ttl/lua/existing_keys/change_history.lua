-- Changes the history of a scheduler entry, if it is still as it was when the change was decided.
-- KEYS[1]: its key. ARGV: the score of what was added last; `none` or `some`: whether it has a TTL; `ttl`, `persist` or
--   `remove`; when it expires (Unix milliseconds).
-- Returns 1 changed, 0 it is no longer what it was, 2 it is already as it is to become.
local score, timed, action, expires_at_ms = unpack(ARGV)
local ttl_ms = redis.call('PTTL', KEYS[1])
if action == 'remove' and ttl_ms == -2 or action == 'ttl' and ttl_ms >= 0 or action == 'persist' and ttl_ms == -1 then
  return 2
elseif redis.call('TYPE', KEYS[1]).ok ~= 'zset' or timed == 'some' and ttl_ms < 0 or timed == 'none' and ttl_ms ~= -1 then
  return 0
elseif redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] ~= score then
  return 0
elseif action == 'remove' then
  redis.call('DEL', KEYS[1])
elseif action == 'persist' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIREAT', KEYS[1], expires_at_ms)
end
return 1
