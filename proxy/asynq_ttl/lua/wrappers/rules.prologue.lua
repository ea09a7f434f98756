-- The sidecar's argument: the rules that can apply to this queue's archive, as JSON. A bulk script meets tasks of
-- many types, so the rule is picked here, by the type in each task's message.
local asynq_ttl_rules = cjson.decode(table.remove(ARGV))
-- Gives archived tasks what their rules say, then trims the archive.
local function asynq_ttl_settle(index, prefix, ids, now, own_seconds, own_cap)
  local rules = asynq_ttl_rules
  for _, id in ipairs(ids) do
    local task = redis.pcall('HMGET', prefix .. id, 'state', 'msg')
    if not task.err and not task[2] then
      redis.pcall('ZREM', index, id)
      redis.pcall('DEL', prefix .. id)
    elseif task[1] == 'archived' then
      local seconds = asynq_ttl_enforces(rules.share, id)
        and asynq_ttl_pick(rules, (asynq_ttl_type(task[2])), own_seconds) or -1
      if seconds == -1 then
        -- For ever, or no rule says how long: a TTL it may have had as a completed task ends with that.
        redis.pcall('PERSIST', prefix .. id)
      elseif seconds == 0 then
        asynq_ttl_remove(index, prefix, {id})
      else
        redis.pcall('PEXPIRE', prefix .. id, string.format('%.0f', (seconds + rules.grace) * 1000))
      end
    end
  end
  local cutoff = '-'
  if rules.cutoff >= 0 then
    cutoff = string.format('%.0f', now - math.max(rules.cutoff, rules.cutoff_own and own_seconds or 0))
  end
  local cap = rules.cap
  if cap >= 0 and rules.share < 10000 then
    cap = own_cap < 0 and -1 or math.max(cap, own_cap)
  elseif cap < 0 and not rules.uncapped then
    cap = own_cap
  end
  asynq_ttl_trim(index, prefix, now, cutoff, cap, rules.spare, rules.grace)
end
