-- Says in which archives something has died of late. Changes nothing.
-- KEYS: the archives. ARGV: for how many seconds back; how many seconds ahead a clock may be.
-- Returns the range of scores that was looked at, then how many members each archive has in it.
local now = tonumber(redis.call('TIME')[1])
local answer = {'(' .. now - tonumber(ARGV[1]), tostring(now + ARGV[2])}
for _, key in ipairs(KEYS) do
  local count = redis.pcall('ZCOUNT', key, answer[1], answer[2])
  answer[#answer + 1] = type(count) == 'number' and count or 0
end
return answer
