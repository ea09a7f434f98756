-- Says where in some queues there may be something to do. Changes nothing.
-- KEYS: of each queue the index completed. Its other places, which are in the same slot, are named from it: a fifth of the keys
-- to send, and most of what a survey of queues that rest costs the sidecar.
-- ARGV[1..3]: how many members a place has at most that is looked through here; the grace in milliseconds; how many seconds
-- ago a task may have become due.
-- ARGV[4..]: the retentions that archived tasks of these queues can have, in seconds.
-- Returns for each place of each queue, in the order of `states`: how many members it has (of a list no more than are looked through and one); 1 if one of them may have
-- something wrong with it, else 0; when the first task can become due, nil for never. After these, for each index that was
-- looked through and has tasks without a TTL: its number among these places, from 0, and a digest of their IDs and scores.
-- And for each index with held tasks: its number less 1,000,000, and how many they are. (`hold.prologue.lua` comes first.)
local most, grace = tonumber(ARGV[1]), tonumber(ARGV[2])
local earliest = tonumber(redis.call('TIME')[1]) - tonumber(ARGV[3])
local states = {'completed', 'archived', 'active', 'pending', 'retry'}
-- Says whether a member may have something wrong with it, and, of an ended task, whether it has no TTL.
local function is_odd(key, state)
  local left = redis.call('PTTL', key)
  if state == 'pending' or state == 'retry' then
    return left >= 0
  elseif state == 'active' then
    return left ~= -1 or redis.pcall('HEXISTS', key, 'msg') == 0
  elseif left == -2 or left >= 0 and left <= grace then
    return true
  end
  local found = redis.pcall('HGET', key, 'state')
  local odd = type(found) ~= 'table' and (found ~= state or left == -1 and redis.pcall('HEXISTS', key, 'msg') == 0)
  return odd, left == -1 and found == state and not odd
end
-- Returns when the first member with at least this score ends its retention.
local function ends(key, lowest, retention)
  local score = tonumber(redis.call('ZRANGEBYSCORE', key, lowest, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2])
  return score and math.max(score + retention, 0)
end
local function first_due(key, state)
  if state == 'completed' then
    return ends(key, '-inf', 0)
  end
  local first
  for number = 4, #ARGV do
    local at = ends(key, earliest - ARGV[number], ARGV[number])
    first = at and math.min(at, first or at) or first
  end
  return first
end
-- Returns the members of a place, if they are looked through, and how many it has; nothing for a key of another type.
local function members(key, state)
  if state == 'active' or state == 'pending' then
    local ids = redis.pcall('LRANGE', key, -most - 1, -1)
    return not ids.err and ids, #ids
  end
  local size = redis.pcall('ZCARD', key)
  if type(size) ~= 'number' then
    return nil
  end
  return size > 0 and size <= most and redis.call('ZRANGE', key, 0, -1) or {}, size
end
local extra = {}
local function survey(key, state, number)
  local ids, size = members(key, state)
  if not ids then
    return 1, 1, false -- who works on it is told what is wrong
  elseif size == 0 then
    return 0, 0, false
  end
  if state == 'completed' or state == 'archived' then
    local held = redis.call('ZCOUNT', key, asynq_ttl_held_score, asynq_ttl_held_score)
    if held > 0 then
      extra[#extra + 1] = number - 1 - 1000000
      extra[#extra + 1] = tostring(held)
    end
  end
  local odd = 0
  if size > most then
    odd = state == 'active' and 1 or 0 -- the others have a round trip of their own
  else
    local prefix, untimed = string.sub(key, 1, -#state - 1) .. 't:', {}
    for _, id in ipairs(ids) do
      local wrong, without = is_odd(prefix .. id, state)
      odd = wrong and 1 or odd
      if without then
        untimed[#untimed + 1] = id
        untimed[#untimed + 1] = redis.call('ZSCORE', key, id)
      end
    end
    if #untimed > 0 then
      extra[#extra + 1] = number - 1
      extra[#extra + 1] = redis.sha1hex(table.concat(untimed, ' '))
    end
  end
  local due = (state == 'completed' or state == 'archived') and first_due(key, state)
  return size, odd, due and due < 1e15 and due
end
local answer = {}
for number, completed in ipairs(KEYS) do
  local prefix = string.sub(completed, 1, -#'completed' - 1)
  for rank, state in ipairs(states) do
    local size, odd, due = survey(prefix .. state, state, (number - 1) * #states + rank)
    answer[#answer + 1] = size
    answer[#answer + 1] = odd
    answer[#answer + 1] = due or false
  end
end
for _, part in ipairs(extra) do
  answer[#answer + 1] = part
end
return answer
