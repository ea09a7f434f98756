-- Removes due tasks that a sink has taken, or gives the keys of those that it has not taken more time.
-- KEYS[1]: the index. ARGV: what the queue's keys start with, the state, grace in milliseconds, milliseconds that a key
-- lives on beyond the grace (0 to remove the tasks), a number of entries, then ID and digest of each task.
-- A task is due that has no more than the grace left; where there is a number of entries, as long as the index has more
-- that are not held. What is held stays.
-- Returns the IDs of the tasks that are gone. (`task.prologue.lua` and `hold.prologue.lua` come first.)
local gone, held = {}, redis.call('ZCOUNT', KEYS[1], asynq_ttl_held_score, asynq_ttl_held_score)
for at = 6, #ARGV, 2 do
  local id = ARGV[at]
  local key = queue .. 't:' .. id
  local task = redis.call('HMGET', key, 'state', 'unique_key', 'asynq_ttl_hold')
  local left = redis.call('PTTL', key)
  local due = left >= 0 and left <= tonumber(ARGV[3])
  if ARGV[5] ~= '' then
    due = redis.call('ZCARD', KEYS[1]) - held > tonumber(ARGV[5])
  end
  if task[1] == ARGV[2] and due and not asynq_ttl_is_held(KEYS[1], id, task[3]) then
    if ARGV[4] ~= '0' then
      redis.call('PEXPIRE', key, tonumber(ARGV[3]) + tonumber(ARGV[4]))
    elseif digest(key) == ARGV[at + 1] then
      redis.call('DEL', key)
      redis.call('ZREM', KEYS[1], id)
      if task[2] and redis.call('GET', task[2]) == id then
        redis.call('DEL', task[2])
      end
      gone[#gone + 1] = id
    end
  end
end
return gone
