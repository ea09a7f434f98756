-- What a hold is: the score of the task's entry is one that nothing else gives and no clock reaches, and a field of its hash
-- says what both had before: the score, when the key expires (Unix milliseconds, -1 for never), and since when it is held.
-- It takes both: a run past every sidecar leaves the field behind, and somebody else's score may be any number.
-- As text: Lua would write the number out anew for each command.
local asynq_ttl_held_score = '253402300798'
local function asynq_ttl_is_held(index, id, field)
  if not field then
    return false
  end
  local score = redis.pcall('ZSCORE', index, id)
  return tonumber(type(score) == 'table' and score.double or score) == tonumber(asynq_ttl_held_score)
end
