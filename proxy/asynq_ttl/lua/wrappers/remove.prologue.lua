-- Removes archived tasks: hash, uniqueness lock if the task still holds it, and index entry. Of an entry whose hash is gone or
-- belongs to a later life of the ID, only the entry goes; one that cannot be looked at, or whose hash cannot be deleted, stays.
-- None of them may be held. Returns how many entries are gone.
-- Arguments: the index, the prefix of task keys, the IDs.
local index, prefix, ids = ...
local removed, keys, locks, holders = {}, {}, {}, {}
for _, id in ipairs(ids) do
  local key = prefix .. id
  local state = redis.pcall('HGET', key, 'state')
  if state == 'archived' then
    keys[#keys + 1], holders[#holders + 1] = key, id
    locks[#locks + 1] = redis.pcall('HGET', key, 'unique_key')
  elseif asynq_ttl_elsewhere(state, 'archived') then
    removed[#removed + 1] = id
  end
end
if #keys > 0 and type(redis.pcall('DEL', unpack(keys))) == 'number' then
  for position, id in ipairs(holders) do
    removed[#removed + 1] = id
    local lock = locks[position]
    if type(lock) == 'string' and redis.pcall('GET', lock) == id then
      redis.pcall('DEL', lock)
    end
  end
end
local count = #removed > 0 and redis.pcall('ZREM', index, unpack(removed))
return type(count) == 'number' and count or 0
