-- Stands before the scripts that read tasks or change them: reads one task, and tells one message from another.
-- ARGV[1] is the prefix of the queue's keys, such as `asynq:{default}:`.
local queue = ARGV[1]
-- Messages longer than this (4 MiB; 64 KiB where only `short` ones are wanted) are not read: that would hold Redis up.
local longest, longest_short = 4194304, 65536
-- The keys of another type than Asynq has at their place that were met while the task at hand was read.
local wrong = {}
-- Returns what a command replies; nothing where its key is of another type. Any other error ends the script.
local function ask(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) ~= 'table' or not reply.err then
    return reply
  elseif not string.find(reply.err, 'WRONGTYPE', 1, true) then
    return redis.call(command, key, ...)
  end
  wrong[#wrong + 1] = key
  return nil
end
-- Returns a digest of a task's message. A message over 128 KiB has its length instead: hashing it takes too long.
local function digest(key)
  local size = redis.call('HSTRLEN', key, 'msg')
  if size == 0 then
    return 'none'
  elseif size > 131072 then
    return 'size ' .. size
  end
  return redis.sha1hex(redis.call('HGET', key, 'msg'))
end
-- Returns an encoded TaskMessage without its payload (field 2, right after the type). Payloads of short messages stay.
local function without_payload(msg)
  local function length_at(at)
    local value, scale = 0, 1
    for position = at, at + 4 do
      local byte = string.byte(msg, position)
      if not byte then
        return nil
      end
      value = value + (byte % 128) * scale
      if byte < 128 then
        return value, position + 1
      end
      scale = scale * 128
    end
  end
  if #msg < 300 or string.byte(msg, 1) ~= 10 then
    return msg
  end
  local size, at = length_at(2)
  local payload = size and at + size
  if not payload or string.byte(msg, payload) ~= 18 then
    return msg
  end
  size, at = length_at(payload + 1)
  if not size or at + size - 1 > #msg then
    return msg
  end
  return string.sub(msg, 1, payload - 1) .. string.sub(msg, at + size)
end
-- Returns the score of a task in its group, or in the set of tasks that is being aggregated.
local function group_score(id, group)
  local score = ask('ZSCORE', queue .. 'g:' .. group, id)
  if score then
    return score
  end
  for _, set in ipairs(ask('ZRANGE', queue .. 'aggregation_sets', 0, 99) or {}) do
    score = ask('ZSCORE', set, id)
    if score then
      return score
    end
  end
  return false
end
-- Returns the score of a task: in the index of its state, in its group, or in the leases; false where it has none.
local function score_of(id, state, group)
  if state == 'active' then
    return ask('ZSCORE', queue .. 'lease', id) or ask('ZSCORE', queue .. 'deadlines', id)
  elseif state == 'aggregating' then
    return group_score(id, group or '')
  elseif state == 'archived' or state == 'completed' or state == 'scheduled' or state == 'retry' then
    return ask('ZSCORE', queue .. state, id)
  end
  return false
end
-- Returns the row of a task, and about how many bytes were read. The row: state; message (false where it was not read,
-- without payload unless it is wanted whole); size of the message; milliseconds its key has to live; score; 1 if it
-- holds its uniqueness lock; result if it is wanted whole, else its size; digest unless only the `head` is wanted; when
-- it became pending (Unix nanoseconds); the keys of another type that were met; what `hold_tasks` wrote into the hash, if so. The row is empty where there is no key,
-- {'no hash'} where it is no hash.
-- What is wanted: `head` and `digest` without payload, `whole`, or `short`, which is whole where that is short.
local function read_task(id, want)
  local key = queue .. 't:' .. id
  wrong = {}
  local size = ask('HSTRLEN', key, 'msg')
  if not size then
    return {'no hash'}, 0
  end
  local ttl_ms = redis.call('PTTL', key)
  if ttl_ms == -2 then
    return {}, 0
  end
  local whole, limit = want == 'whole' or want == 'short', want == 'short' and longest_short or longest
  local task = redis.call('HMGET', key, 'state', 'unique_key', 'group', 'pending_since', 'asynq_ttl_hold',
    size <= limit and 'msg' or '')
  local msg = task[6]
  -- Only a task that ran to its end, or is running, has a result.
  local has_result = task[1] == 'completed' or task[1] == 'active' or not task[1]
  local result = has_result and redis.call('HSTRLEN', key, 'result') or 0
  local bytes = size + 200
  if whole and result > 0 and result <= limit then
    bytes = bytes + result
    result = redis.call('HGET', key, 'result')
  elseif msg and not whole then
    msg = without_payload(msg)
  end
  local locked = task[2] and ask('GET', task[2]) == id and 1 or 0
  local message_digest = want ~= 'head' and digest(key) or ''
  return {task[1] or '', msg, size, ttl_ms, score_of(id, task[1], task[3]) or false, locked, result, message_digest,
    task[4] or '', wrong, task[5]}, bytes
end
