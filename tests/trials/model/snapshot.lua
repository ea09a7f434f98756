-- Reads all there is of a queue at one moment. ARGV: the prefix of its keys.
-- Returns the time, the tasks (ID, state, message, TTL), the lists, the sorted sets by name, groups and locks.
local prefix = ARGV[1]
local tasks, indexes, locks = {}, {}, {}
for _, key in ipairs(redis.call('KEYS', prefix .. 't:*')) do
  local task = redis.call('HMGET', key, 'state', 'msg')
  tasks[#tasks + 1] = {string.sub(key, #prefix + 3), task[1], task[2], redis.call('PTTL', key)}
end
for _, name in ipairs({'lease', 'scheduled', 'retry', 'archived', 'completed', 'g:g1'}) do
  indexes[#indexes + 1] = {name, redis.call('ZRANGE', prefix .. name, 0, -1, 'WITHSCORES')}
end
for _, key in ipairs(redis.call('KEYS', prefix .. 'unique:*')) do
  locks[#locks + 1] = {string.sub(key, #prefix + 8), redis.call('GET', key)}
end
return {
  redis.call('TIME'), tasks,
  redis.call('LRANGE', prefix .. 'pending', 0, -1), redis.call('LRANGE', prefix .. 'active', 0, -1),
  indexes, redis.call('SMEMBERS', prefix .. 'groups'), locks,
}
