-- Sweeps one page of a terminal index.
-- KEYS[1]: the index.
-- ARGV[1..3]: task key prefix, the index's state, grace in milliseconds.
-- ARGV[4..8]: the page, see `page.prologue.lua`, which comes first.
-- ARGV[9]: empty to remove what is due. Where it is handed over first, it stays, and the key of any task that has fewer
-- milliseconds left than this gets the grace again: no key expires before its task has been handed over.
-- ARGV[10..11]: a task whose key has no more milliseconds left than this is due whatever its score says; the same for a
-- task of whose retention nothing is known.
-- ARGV[12..]: the retentions that archived tasks of the queue can have, in seconds, shortest first.
-- Returns how many members were examined, were due, and were dropped as ghosts; the IDs of the due ones; the IDs without a
-- hash; how many tasks have no TTL. (`states.prologue.lua` and `hold.prologue.lua` come first.)
local found = asynq_ttl_page(4)
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local grace, keep = tonumber(ARGV[3]), tonumber(ARGV[9])
-- Says whether the retention of a task is over whose key has no more than the grace left. The key may have been given another
-- grace: by another sidecar, or before the policy was changed. So the score has to say it as well: it is the end of the retention
-- for a completed task, and the beginning for an archived one. Where the score cannot be right, since a clock was wrong or the
-- retention is not known, only the time that the key has left counts.
local function is_over(left, score)
  if left <= tonumber(ARGV[10]) then
    return true
  end
  local life = now + left / 1000 - score
  if ARGV[2] == 'completed' then
    return score <= now or life < 0
  end
  local retention
  for number = 12, #ARGV do
    retention = tonumber(ARGV[number]) <= life and tonumber(ARGV[number]) or retention
  end
  if retention then
    return now - score >= retention
  end
  return left <= tonumber(ARGV[11])
end
local due, gone, missing, untimed = {}, {}, {}, 0
for at = 1, #found, 2 do
  local id = found[at]
  local key = ARGV[1] .. id
  local left = redis.call('PTTL', key)
  if left == -2 then
    -- Somebody may be putting the task there in two steps, entry first: the caller looks once more in a moment.
    missing[#missing + 1] = id
  -- Nothing live carries a TTL, so a key with time left is a terminal task, nearly always in this very state: only the
  -- patrol reads its hash to see.
  elseif left <= grace or ARGV[4] == 'rank' then
    local task = redis.pcall('HMGET', key, 'state', 'unique_key', 'asynq_ttl_hold')
    if task.err then
      -- A key of another type is not a task of Asynq's: it stays.
    elseif task[1] ~= ARGV[2] then
      -- A ghost: the hash belongs to a later life of the ID. Only the entry goes, and not for a state that is not one of Asynq's.
      if asynq_ttl_elsewhere(task[1], ARGV[2]) then
        gone[#gone + 1] = id
      end
    elseif asynq_ttl_is_held(KEYS[1], id, task[3]) then
      redis.call('PERSIST', key) -- whoever gave it a TTL does not know of holds
    elseif left >= 0 then
      if left <= grace and is_over(left, tonumber(found[at + 1])) then
        due[#due + 1] = id
        if not keep then
          gone[#gone + 1] = id
          redis.call('DEL', key)
          if task[2] and redis.pcall('GET', task[2]) == id then
            redis.call('DEL', task[2])
          end
        end
      end
      if keep and left < keep then
        redis.call('PEXPIRE', key, grace)
      end
    elseif redis.call('HEXISTS', key, 'msg') == 0 then
      -- A state and no message: somebody archived an ID whose hash was gone. It is no task, and cannot become one.
      gone[#gone + 1] = id
      redis.call('DEL', key)
    else
      untimed = untimed + 1
    end
  end
end
if #gone > 0 then
  redis.call('ZREM', KEYS[1], unpack(gone))
end
return {#found / 2, #due, #gone - (keep and 0 or #due), due, missing, untimed}
