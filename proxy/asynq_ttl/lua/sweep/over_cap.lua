-- Returns the IDs of the oldest entries of an index that has more than it may, at most 5,000.
-- KEYS[1]: the index. ARGV: task key prefix, the most entries, 1 to pass over tasks without a TTL (of the oldest 10,000).
-- What is held counts for nothing, and is the newest by its score. (`hold.prologue.lua` comes first.)
local held = redis.call('ZCOUNT', KEYS[1], asynq_ttl_held_score, asynq_ttl_held_score)
local over = math.min(redis.call('ZCARD', KEYS[1]) - held - tonumber(ARGV[2]), 5000)
if over <= 0 then
  return {}
elseif ARGV[3] ~= '1' then
  return redis.call('ZRANGE', KEYS[1], 0, over - 1)
end
local found = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, 9999)) do
  if #found < over and redis.call('PTTL', ARGV[1] .. id) ~= -1 then
    found[#found + 1] = id
  end
end
return found
