-- What is held is the newest by its score, and counts for nothing: it pushes nothing out.
local held = over[1] and redis.pcall('ZCOUNT', index, asynq_ttl_held_score, asynq_ttl_held_score)
held = type(held) == 'number' and held or 0
-- Nearly always there is one entry too many, and it is an archived task.
if #over == 1 and held == 0 and not old and string.byte(rest) == 48 then
  local id = over[1]
  local key = prefix .. id
  if redis.pcall('HGET', key, 'state') == 'archived' then
    local lock = redis.pcall('HGET', key, 'unique_key')
    if type(redis.pcall('DEL', key)) == 'number' then
      if type(lock) == 'string' and redis.pcall('GET', lock) == id then
        redis.pcall('DEL', lock)
      end
      redis.pcall('ZREM', index, id)
      return
    end
  end
end
