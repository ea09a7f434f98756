-- An entry whose hash is gone, or belongs to a later life of the ID, must not be run: it would become a task
-- without a message. Such entries leave the index first; a hash that has no message goes with its entry.
local asynq_ttl_state = string.match(KEYS[source_key], ':(%a+)$')
local asynq_ttl_ids = {}
for _, id in ipairs(redis.pcall('ZRANGE', KEYS[source_key], 0, -1)) do
  local key = ARGV[prefix_arg] .. id
  local state = redis.pcall('HGET', key, 'state')
  -- Whether there is a message is asked for without reading it: it may be large, and there may be many.
  if asynq_ttl_elsewhere(state, asynq_ttl_state)
    or state == asynq_ttl_state and redis.pcall('HEXISTS', key, 'msg') == 0 then
    redis.pcall('ZREM', KEYS[source_key], id)
    if state == asynq_ttl_state then
      redis.pcall('DEL', key)
    end
  else
    asynq_ttl_ids[#asynq_ttl_ids + 1] = id
  end
end
