-- The script deletes the hash of every due member, whatever state it is in. A member whose hash belongs to a
-- later life of the ID, or is gone, leaves the index here, so that no live task is deleted.
local asynq_ttl_due =
  redis.pcall('ZRANGEBYSCORE', KEYS[index_key], '-inf', ARGV[time_arg], 'LIMIT', 0, tonumber(ARGV[batch_arg]) or 0)
for _, id in ipairs(asynq_ttl_due) do
  local state = redis.pcall('HGET', ARGV[prefix_arg] .. id, 'state')
  if state ~= 'completed' and type(state) ~= 'table' then
    redis.pcall('ZREM', KEYS[index_key], id)
  end
end
