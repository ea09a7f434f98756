-- Returns a number as a varint of protocol buffers.
local function asynq_ttl_varint(value)
  local bytes = ''
  while value >= 128 do
    bytes = bytes .. string.char(value % 128 + 128)
    value = math.floor(value / 128)
  end
  return bytes .. string.char(value)
end
-- Makes the task that the script has deleted a completed one, if its rule keeps it: with everything its hash had, and with
-- its Retention (field 12) and the moment at which it completed (field 13) at the end of its message, where they can be taken off
-- again. These bytes are also in a field of their own: who has it was kept by a rule.
-- A task whose message cannot be read stays deleted: with two fields more nobody could read it either.
local function asynq_ttl_keep(fields)
  local msg_at, state_at
  for at = 1, #fields, 2 do
    if fields[at] == 'msg' then
      msg_at = at + 1
    elseif fields[at] == 'state' then
      state_at = at + 1
    end
  end
  local task_type = msg_at and asynq_ttl_type(fields[msg_at])
  local seconds = task_type and asynq_ttl_pick(asynq_ttl_rules, task_type, nil)
  local clock = seconds and seconds ~= 0 and asynq_ttl_time()
  if not clock or not state_at or #fields > 1000 then
    return
  end
  local retention, score = seconds, clock + seconds
  if seconds == -1 then
    retention, score = asynq_ttl_rules.longest, asynq_ttl_rules.for_ever
  end
  local added = '`' .. asynq_ttl_varint(retention) .. 'h' .. asynq_ttl_varint(clock)
  fields[msg_at] = fields[msg_at] .. added
  fields[state_at] = 'completed'
  fields[#fields + 1] = 'asynq_ttl_done'
  fields[#fields + 1] = added
  local key, index = KEYS[task_key], string.sub(KEYS[task_key], 1, -#ARGV[id_arg] - 3) .. 'completed'
  if type(redis.pcall('HSET', key, unpack(fields))) ~= 'number' then
    return
  end
  -- Either all of it or, as Asynq does, nothing: no hash without an entry, and no entry without a hash.
  local timed = 1
  if seconds ~= -1 then
    timed = redis.pcall('PEXPIRE', key, string.format('%.0f', (seconds + asynq_ttl_rules.grace) * 1000))
  end
  if timed ~= 1 or type(redis.pcall('ZADD', index, string.format('%.0f', score), ARGV[id_arg])) ~= 'number' then
    redis.pcall('DEL', key)
  end
end
if not (type(asynq_ttl_reply) == 'table' and asynq_ttl_reply.err) and redis.pcall('EXISTS', KEYS[task_key]) == 0 then
  asynq_ttl_keep(asynq_ttl_fields)
end
