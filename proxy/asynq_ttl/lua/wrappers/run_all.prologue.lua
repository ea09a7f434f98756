-- An entry whose hash is gone, or belongs to a later life of the ID, must not be run: it would become a task
-- without a message. Such entries leave the index first.
local asynq_ttl_state = string.match(KEYS[source_key], ':(%a+)$')
local asynq_ttl_ids, asynq_ttl_keys, asynq_ttl_kept, asynq_ttl_strange = {}, {}, {}, {}
-- A script that takes only some finds others in their place, which are looked at too.
local asynq_ttl_last = source_last
repeat
  local gone, looked = 0, #asynq_ttl_ids
  for _, id in ipairs(redis.pcall(source_command, KEYS[source_key], looked, asynq_ttl_last)) do
    local key = ARGV[prefix_arg] .. id
    local state, kept = asynq_ttl_look(key)
    local strange = state ~= asynq_ttl_state
    if strange and asynq_ttl_elsewhere(state, asynq_ttl_state) then
      gone = redis.pcall('ZREM', KEYS[source_key], id) == 1 and gone + 1 or gone
    else
      looked = looked + 1
      asynq_ttl_ids[looked], asynq_ttl_keys[looked] = id, key
      if strange then
        asynq_ttl_strange[key] = true
      end
      if kept then
        asynq_ttl_kept[#asynq_ttl_kept + 1] = key
      end
    end
  end
until gone == 0 or asynq_ttl_last == -1
