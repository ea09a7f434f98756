-- Argument: the seconds for which Asynq itself keeps archived tasks, and the rules, as JSON.
-- Returns what returns the milliseconds that a task lives by its ID and message: as in `archive.epilogue`. A rule is picked
-- once for each type.
local own_seconds, rules = string.match(..., '^(%S+) (.*)$')
rules, own_seconds = cjson.decode(rules), tonumber(own_seconds)
local picked = {}
return function(id, msg)
  if not asynq_ttl_enforces(rules.share, id) then
    return '0'
  end
  local task_type = asynq_ttl_type(msg) or 0
  local lives = picked[task_type]
  if not lives then
    local seconds = asynq_ttl_pick(rules, task_type ~= 0 and task_type or nil, own_seconds)
    -- For ever, or no rule says how long: a TTL it may have had as a completed task ends with that.
    lives = (not seconds or seconds == -1) and '0' or seconds == 0 and '-1'
      or string.format('%.0f', (seconds + rules.grace) * 1000)
    picked[task_type] = lives
  end
  return lives
end
