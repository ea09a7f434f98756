-- Reads of an encoded TaskMessage the task type (field 1), the retention in seconds (field 12; 0 without) and when it completed
-- (field 13, Unix seconds; 0 without); nil where the message does not decode.
local function asynq_ttl_type(msg)
  local at, found, retention, completed_at = 1, '', 0, 0
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
    -- Nearly always both the tag and what is behind it are one byte each.
    local tag, value = string.byte(msg, at, at + 1)
    if tag < 128 then
      at = at + 1
    else
      tag, value = varint(), nil
      if not tag then
        return nil
      end
    end
    local wire = tag % 8
    if wire == 0 or wire == 2 then
      if value and value < 128 then
        at = at + 1
      else
        value = varint()
        if not value then
          return nil
        end
      end
      if wire == 2 then
        if tag == 10 then
          found = string.sub(msg, at, at + value - 1)
        end
        at = at + value
      elseif tag == 96 then
        retention = value
      elseif tag == 104 then
        completed_at = value
      end
    elseif wire == 1 then
      at = at + 8
    elseif wire == 5 then
      at = at + 4
    else
      return nil
    end
  end
  if at ~= #msg + 1 then
    return nil
  end
  return found, retention, completed_at
end
-- Returns the seconds to keep a task of this type (-1 for ever, 0 not at all), nil where no rule matches; and the number of the
-- rule, 0 where none matches. A type that cannot be read is nil: only a rule for every type matches it.
-- own_seconds: for how long Asynq itself would keep the task; nil where nobody knows, which is no time to set.
local function asynq_ttl_pick(rules, task_type, own_seconds)
  local seconds, found = rules.unmatched, 0
  for number, rule in ipairs(rules.rules) do
    local match = #rule.types == 0
    for _, pattern in ipairs(rule.types) do
      match = match or task_type and string.find(task_type, pattern) ~= nil
    end
    if match then
      seconds, found = rule.seconds, number
      break
    end
  end
  if seconds == 'own' then
    return own_seconds and math.max(own_seconds, 1), found
  end
  return tonumber(seconds), found
end
-- Says whether a task is inside the share, in hundredths of a percent, that the rollout enforces.
local function asynq_ttl_enforces(share, id)
  return share >= 10000 or tonumber(string.sub(redis.sha1hex(id), 1, 8), 16) % 10000 < share
end
