-- Takes off the message of a task that lives again what was added when it was kept without a Retention of its own; so it is
-- kept by the same rule when it succeeds again. Where the message has changed since, it stays as it is.
local function asynq_ttl_restore(key)
  local added = redis.pcall('HGET', key, 'asynq_ttl_done')
  if type(added) ~= 'string' then
    return
  end
  local msg = redis.pcall('HGET', key, 'msg')
  if type(msg) == 'string' and #added > 0 and string.sub(msg, -#added) == added then
    redis.pcall('HSET', key, 'msg', string.sub(msg, 1, -#added - 1))
  end
  redis.pcall('HDEL', key, 'asynq_ttl_done')
end
