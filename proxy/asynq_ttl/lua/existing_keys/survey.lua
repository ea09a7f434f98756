-- Says what is at some of a queue's keys.
-- KEYS[1]: any key of the queue. ARGV: the prefix of its keys, then what the names of the keys go on with.
-- Returns type and length of each; the length is 0 where it is neither a list nor a sorted set.
local found, lengths = {}, {list = 'LLEN', zset = 'ZCARD'}
for number = 2, #ARGV do
  local key = queue .. ARGV[number]
  local kind = redis.call('TYPE', key).ok
  found[#found + 1] = kind
  found[#found + 1] = lengths[kind] and redis.call(lengths[kind], key) or 0
end
return found
