-- Gives a task that has just ended what its rule says; `found` is its index, and its score there.
local function asynq_ttl_settle(task, state, found)
  local rules = asynq_ttl_ends[state]
  local msg = redis.pcall('HGET', task.key, 'msg')
  if type(msg) == 'table' then
    return
  end
  -- Nobody knows what a foreign score means. From a day ago to ten years ahead it is taken for a moment in seconds, as
  -- Asynq has it: there a janitor goes by it. Anything else (nanoseconds, a far future) stays, and is no time to go by.
  local score, clock = found.score, state == 'completed' and asynq_ttl_time()
  local dated = score and clock and score >= clock - 86400 and score <= clock + 315360000
  local task_type, own
  if msg then
    task_type, own = asynq_ttl_type(msg)
  end
  if state == 'archived' then
    own = 7776000
  elseif dated and score > clock then
    own = score - clock
  elseif own == 0 or own and own >= 9007199254740992 then
    own = nil
  end
  local seconds
  if rules and asynq_ttl_enforces(asynq_ttl_ends.share, task.id) then
    seconds = asynq_ttl_pick(rules, task_type, own)
  end
  if not seconds then
    -- No rule says how long: a TTL it may have had in another terminal state ends with that.
    if task.state == 'archived' or task.state == 'completed' then
      redis.pcall('PERSIST', task.key)
    end
  elseif seconds == 0 then
    local lock = redis.pcall('HGET', task.key, 'unique_key')
    if type(redis.pcall('DEL', task.key)) == 'number' then
      redis.pcall('ZREM', found.index, task.id)
      if type(lock) == 'string' and redis.pcall('GET', lock) == task.id then
        redis.pcall('DEL', lock)
      end
    end
  else
    local expiry = asynq_ttl_ends.for_ever
    if seconds == -1 then
      redis.pcall('PERSIST', task.key)
    else
      expiry = dated and clock + seconds
      redis.pcall('PEXPIRE', task.key, string.format('%.0f', (seconds + asynq_ttl_ends.grace) * 1000))
    end
    if dated then
      redis.pcall('ZADD', found.index, 'XX', string.format('%.0f', expiry), task.id)
    end
  end
end
-- What a task is now says what the script has done. It has ended if its state is a terminal one, and that state or its score
-- is another than before; what was only looked at keeps what it had. Nothing live carries a TTL, or is held.
for _, task in ipairs(asynq_ttl_tasks) do
  local state = redis.pcall('HGET', task.key, 'state')
  local held = task.held and redis.pcall('HGET', task.key, 'asynq_ttl_hold')
  if state == 'archived' or state == 'completed' then
    local index = asynq_ttl_ends.queue .. state
    -- A score is only asked for where it tells something.
    local score = (state == task.state or state == 'completed') and asynq_ttl_score(index, task.id)
    if state ~= task.state or score ~= task[state] then
      if type(held) == 'string' then
        asynq_ttl_hold_on(index, task.key, task.id, held)
      else
        asynq_ttl_settle(task, state, {index = index, score = score})
      end
    end
  elseif type(state) == 'string' then
    redis.pcall('PERSIST', task.key)
    if type(held) == 'string' then
      redis.pcall('HDEL', task.key, 'asynq_ttl_hold')
    end
    if task.state == 'archived' or task.state == 'completed' then
      asynq_ttl_restore(task.key)
    end
  end
end
