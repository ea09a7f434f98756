-- Drops the entries of an index whose hashes are still not there.
-- KEYS[1]: the index. ARGV: task key prefix, then IDs. Returns how many were dropped.
local dropped = 0
for number = 2, #ARGV do
  if redis.call('EXISTS', ARGV[1] .. ARGV[number]) == 0 then
    dropped = dropped + redis.call('ZREM', KEYS[1], ARGV[number])
  end
end
return dropped
