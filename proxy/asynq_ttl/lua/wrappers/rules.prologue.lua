-- The sidecar's argument: the rules that can apply to this queue's archive, as JSON. A bulk script meets tasks of
-- many types, so the rule is picked here, by the type in each task's message.
local asynq_ttl_rules = cjson.decode(table.remove(ARGV))
-- Reads the task type (field 1) of an encoded TaskMessage; nil where the message does not decode.
local function asynq_ttl_type(msg)
  local at, found = 1, ''
  local function varint()
    local value, scale = 0, 1
    while true do
      local byte = string.byte(msg, at)
      if not byte then
        return nil
      end
      at = at + 1
      value = value + (byte % 128) * scale
      if byte < 128 then
        return value
      end
      scale = scale * 128
    end
  end
  while at <= #msg do
    local tag = varint()
    if not tag then
      return nil
    end
    local wire = tag % 8
    if wire == 0 then
      if not varint() then
        return nil
      end
    elseif wire == 1 then
      at = at + 8
    elseif wire == 5 then
      at = at + 4
    elseif wire == 2 then
      local size = varint()
      if not size then
        return nil
      end
      if tag == 10 then
        found = string.sub(msg, at, at + size - 1)
      end
      at = at + size
    else
      return nil
    end
  end
  if at ~= #msg + 1 then
    return nil
  end
  return found
end
-- Returns the seconds to keep a task of this type (-1 for ever, 0 not at all); nil where no rule matches.
local function asynq_ttl_pick(task_type, own_seconds)
  local seconds = asynq_ttl_rules.unmatched
  for _, rule in ipairs(asynq_ttl_rules.rules) do
    local match = #rule.types == 0
    for _, pattern in ipairs(rule.types) do
      match = match or string.find(task_type, pattern) ~= nil
    end
    if match then
      seconds = rule.seconds
      break
    end
  end
  if seconds == 'own' then
    return math.max(own_seconds, 1)
  end
  return tonumber(seconds)
end
-- Gives archived tasks what their rules say, then trims the archive.
local function asynq_ttl_settle(index, prefix, ids, now, own_seconds, own_cap)
  local rules = asynq_ttl_rules
  for _, id in ipairs(ids) do
    local task = redis.pcall('HMGET', prefix .. id, 'state', 'msg')
    if not task.err and not task[2] then
      redis.pcall('ZREM', index, id)
      redis.pcall('DEL', prefix .. id)
    elseif task[1] == 'archived' then
      local enforced = rules.share >= 10000
        or tonumber(string.sub(redis.sha1hex(id), 1, 8), 16) % 10000 < rules.share
      local task_type = enforced and asynq_ttl_type(task[2])
      local seconds = task_type and asynq_ttl_pick(task_type, own_seconds) or -1
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
