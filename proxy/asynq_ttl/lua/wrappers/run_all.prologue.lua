-- An entry whose hash is gone, or belongs to a later life of the ID, must not be run: it would become a task
-- without a message. Such entries leave the index first; a hash that has no message goes with its entry.
local asynq_ttl_state = string.match(KEYS[source_key], ':(%a+)$')
local asynq_ttl_ids, asynq_ttl_kept = {}, {}
-- A script that takes only some finds others in their place, which are looked at too.
local asynq_ttl_last = source_last
repeat
  local gone = 0
  for _, id in ipairs(redis.pcall(source_command, KEYS[source_key], #asynq_ttl_ids, asynq_ttl_last)) do
    local key = ARGV[prefix_arg] .. id
    local state, kept = asynq_ttl_look(key)
    local here = state == asynq_ttl_state
    -- Whether there is a message is asked for without reading it: it may be large, and there may be many.
    if here and redis.pcall('HEXISTS', key, 'msg') == 0
      or not here and asynq_ttl_elsewhere(state, asynq_ttl_state) then
      gone = redis.pcall('ZREM', KEYS[source_key], id) == 1 and gone + 1 or gone
      if here then
        redis.pcall('DEL', key)
      end
    else
      asynq_ttl_ids[#asynq_ttl_ids + 1] = id
      if kept then
        asynq_ttl_kept[#asynq_ttl_kept + 1] = key
      end
    end
  end
until gone == 0 or asynq_ttl_last == -1
