-- Reads a page of a queue's list, from its head (so that what is pushed meanwhile makes none be passed over).
-- KEYS[1]: the list. ARGV: what the queue's keys start with, the first position, the number of IDs.
-- Returns the IDs, and those of them whose hash is gone or has no message.
local ids = redis.call('LRANGE', KEYS[1], ARGV[2], tonumber(ARGV[2]) + tonumber(ARGV[3]) - 1)
local gone = {}
for _, id in ipairs(ids) do
  if redis.call('HEXISTS', queue .. 't:' .. id, 'msg') == 0 then
    gone[#gone + 1] = id
  end
end
return {ids, gone}
