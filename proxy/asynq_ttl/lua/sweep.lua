-- Sweeps one page of a terminal index.
-- KEYS[1]: the index. ARGV: task key prefix, the index's state, grace in milliseconds, then either
-- 'rank', first rank, last rank, '', '' or 'score', lowest, highest, offset, count; then 1 to leave what is due where it
-- is, for it is handed over first.
-- Returns the numbers of members looked at, due and dropped, the IDs of the due ones, and those without a hash.
local ids
if ARGV[4] == 'rank' then
  ids = redis.call('ZRANGE', KEYS[1], ARGV[5], ARGV[6])
else
  ids = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[5], ARGV[6], 'LIMIT', ARGV[7], ARGV[8])
end
local grace = tonumber(ARGV[3])
local due, gone, missing = {}, {}, {}
for _, id in ipairs(ids) do
  local key = ARGV[1] .. id
  local left = redis.call('PTTL', key)
  if left == -2 then
    -- Somebody may be putting the task there in two steps, entry first: it is looked at once more.
    missing[#missing + 1] = id
  -- Nothing live carries a TTL, so a key with time left is a terminal task, nearly always in this very state: only the
  -- patrol reads its hash to see.
  elseif left <= grace or ARGV[4] == 'rank' then
    local task = redis.call('HMGET', key, 'state', 'unique_key')
    if task[1] ~= ARGV[2] then
      -- A ghost: the hash belongs to a later life of the ID. Only the entry goes.
      gone[#gone + 1] = id
    elseif left >= 0 and left <= grace then
      due[#due + 1] = id
      if ARGV[9] ~= '1' then
        gone[#gone + 1] = id
        redis.call('DEL', key)
        if task[2] and redis.call('GET', task[2]) == id then
          redis.call('DEL', task[2])
        end
      end
    elseif left < 0 and redis.call('HEXISTS', key, 'msg') == 0 then
      -- A state and no message: somebody archived an ID whose hash was gone. Not a task, and it cannot become one.
      gone[#gone + 1] = id
      redis.call('DEL', key)
    end
  end
end
if #gone > 0 then
  redis.call('ZREM', KEYS[1], unpack(gone))
end
return {#ids, #due, #gone - (ARGV[9] == '1' and 0 or #due), due, missing}
