-- One atomic look at a queue: every task hash and every index, as JSON.
-- ARGV[1]: the queue's prefix, `asynq:{q}:`.
local census = {hashes = {}, indexes = {}}
local prefix = ARGV[1] .. 't:'
for _, key in ipairs(redis.call('KEYS', prefix .. '*')) do
  local left = redis.call('PTTL', key)
  local task = redis.call('HMGET', key, 'state', 'msg', 'asynq_ttl_hold')
  if left ~= -2 then
    census.hashes[string.sub(key, #prefix + 1)] = {
      state = task[1] or '', msg = task[2] and true or false, held = task[3] and true or false, ttl = left,
    }
  end
end
for _, name in ipairs({'pending', 'active'}) do
  census.indexes[name] = redis.call('LRANGE', ARGV[1] .. name, 0, -1)
end
for _, name in ipairs({'scheduled', 'retry', 'archived', 'completed', 'lease'}) do
  census.indexes[name] = redis.call('ZRANGE', ARGV[1] .. name, 0, -1)
end
return cjson.encode(census)
