-- The sidecar's argument is that of `archive.epilogue`. Where a task's milliseconds depend on its type or ID, they are `*`, and after the
-- rest come the seconds for which Asynq itself keeps archived tasks, and the rules, as JSON: one is picked by the type in each task's message.
-- Gives archived tasks what their rules say, then trims the archive.
local function asynq_ttl_settle(index, prefix, ids)
  local ms, cutoff, cap, spare, grace, own_seconds, rules =
    string.match(asynq_ttl_own, '^(%S+) (%S+) (%S+) (%S+) (%S+) ?(%S*) ?(.*)$')
  local picked, unwanted = {}, {}
  if ms == '*' then
    rules, own_seconds, ms = cjson.decode(rules), tonumber(own_seconds), nil
  end
  for _, id in ipairs(ids) do
    local key, lives, msg = prefix .. id, ms, nil
    if ms then
      -- Only whether there is a message is asked for: it may be large, and there may be many.
      msg = redis.pcall('HEXISTS', key, 'msg')
    else
      msg = redis.pcall('HGET', key, 'msg')
    end
    if not msg or msg == 0 then
      redis.pcall('ZREM', index, id)
      redis.pcall('DEL', key)
    elseif type(msg) ~= 'table' and (says_ended or redis.pcall('HGET', key, 'state') == 'archived') then
      if not lives and asynq_ttl_enforces(rules.share, id) then
        local task_type = asynq_ttl_type(msg) or 0
        lives = picked[task_type]
        if not lives then
          local seconds = asynq_ttl_pick(rules, task_type ~= 0 and task_type or nil, own_seconds)
          -- For ever, or no rule says how long: a TTL it may have had as a completed task ends with that.
          lives = (not seconds or seconds == -1) and '0' or seconds == 0 and '-1'
            or string.format('%.0f', (seconds + rules.grace) * 1000)
          picked[task_type] = lives
        end
      end
      if lives == '-1' then
        unwanted[#unwanted + 1] = id
      elseif lives and lives ~= '0' then
        redis.pcall('PEXPIRE', key, lives)
      else
        redis.pcall('PERSIST', key)
      end
    end
    if #unwanted == 1000 then
      asynq_ttl_remove(index, prefix, unwanted)
      unwanted = {}
    end
  end
  asynq_ttl_remove(index, prefix, unwanted)
  asynq_ttl_trim(index, prefix, cutoff, tonumber(cap), spare == '1', tonumber(grace))
end
