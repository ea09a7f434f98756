-- Holds a task on in the index that a script has just moved it to. What it goes back to is that it ended now, without a TTL.
local function asynq_ttl_hold_on(index, key, id, field)
  local score = redis.pcall('ZSCORE', index, id)
  score = type(score) == 'table' and score.double or score
  if type(score) ~= 'string' and type(score) ~= 'number' then
    return
  end
  local since = string.match(field, '(%S+)$') or '0'
  redis.pcall('HSET', key, 'asynq_ttl_hold', tostring(score) .. ' -1 ' .. since)
  redis.pcall('PERSIST', key)
  redis.pcall('ZADD', index, 'XX', asynq_ttl_held_score, id)
end
