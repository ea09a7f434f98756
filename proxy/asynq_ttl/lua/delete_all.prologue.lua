-- The script deletes the hash of every member, whatever state it is in, and its uniqueness lock. An entry whose hash
-- belongs to a later life of the ID leaves the index here, so that no live task is deleted.
local asynq_ttl_state = string.match(KEYS[source_key], ':(%a+)$')
for _, id in ipairs(redis.pcall('ZRANGE', KEYS[source_key], 0, -1)) do
  local state = redis.pcall('HGET', ARGV[prefix_arg] .. id, 'state')
  if type(state) == 'string' and state ~= asynq_ttl_state then
    redis.pcall('ZREM', KEYS[source_key], id)
  end
end
