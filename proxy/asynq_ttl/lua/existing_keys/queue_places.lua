-- Says what is at some of a queue's keys.
-- KEYS[1]: any key of the queue. ARGV: the prefix of its keys, then what the names of the keys go on with.
-- Returns type and length of each; the length is 0 where it is neither a list nor a sorted set.
local found = {}
local function length(kind, key)
  if kind == 'list' then
    return redis.call('LLEN', key)
  end
  return kind == 'zset' and redis.call('ZCARD', key) or 0
end
for number = 2, #ARGV do
  local key = queue .. ARGV[number]
  local kind = redis.call('TYPE', key).ok
  found[#found + 1] = kind
  found[#found + 1] = length(kind, key)
end
return found
