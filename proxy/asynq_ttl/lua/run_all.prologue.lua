-- An entry whose hash is gone, or belongs to a later life of the ID, must not be run: it would become a task
-- without a message. Such entries leave the index first; a hash that has no message goes with its entry.
local asynq_ttl_state = string.match(KEYS[source_key], ':(%a+)$')
local asynq_ttl_ids = {}
for _, id in ipairs(redis.pcall('ZRANGE', KEYS[source_key], 0, -1)) do
  local task = redis.pcall('HMGET', ARGV[prefix_arg] .. id, 'state', 'msg')
  if not task.err and (task[1] ~= asynq_ttl_state or not task[2]) then
    redis.pcall('ZREM', KEYS[source_key], id)
    if task[1] == asynq_ttl_state then
      redis.pcall('DEL', ARGV[prefix_arg] .. id)
    end
  else
    asynq_ttl_ids[#asynq_ttl_ids + 1] = id
  end
end
