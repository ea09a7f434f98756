-- Gives tasks on a page of a terminal index that have no TTL what the policy says. Removes nothing.
-- KEYS[1]: the index.
-- ARGV[1..2]: task key prefix, the index's state.
-- ARGV[3..7]: the page, see `page.prologue.lua`, which comes first.
-- ARGV[8]: tasks that ended before this moment (Unix seconds) stay as they are.
-- ARGV[9]: how many milliseconds the key of a task lives on that is due already.
-- ARGV[10]: empty to change nothing.
-- ARGV[11]: what was returned as digest when the page was looked at before; then nothing is done if it is the same.
-- ARGV[12]: the rules that can apply to the index, as JSON. (`pick.prologue.lua` and `hold.prologue.lua` come first.)
-- Returns a digest of the members without a TTL; how many members the page has, and how many of them were looked at: messages
-- are read up to a number of bytes. Then of each adopted task: its ID; the number of its rule, 0 where none matches; the seconds
-- that its key lives; 1 if nobody knows when it ended; 1 if it is due.
local prefix, state = ARGV[1], ARGV[2]
local budget, held_score = 4194304, tonumber(asynq_ttl_held_score)
local found = asynq_ttl_page(3)
local untimed, digested = {}, {}
for at = 1, #found, 2 do
  if redis.call('PTTL', prefix .. found[at]) == -1 then
    untimed[at] = true
    digested[#digested + 1] = found[at] .. ' ' .. found[at + 1]
  end
end
local digest = redis.sha1hex(table.concat(digested, ' '))
local answer = {digest, #found / 2, #found / 2}
if digest == ARGV[11] then
  return answer
end
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local rules = cjson.decode(ARGV[12])
local by_message = state == 'completed' or not rules.rules[1] or #rules.rules[1].types > 0
-- Asynq keys tasks like this since 2021. A moment before that, or one that has not come yet, is none at which a task ended.
local function moment(seconds)
  return seconds and seconds >= 1577836800 and seconds <= now + 60 and seconds or nil
end
-- Returns when a task ended, and how long Asynq itself keeps it; each nil where nobody knows. Without a retention, the score of a
-- completed task may say when its time is over, whatever unit it is in.
local function ending(score, retention, completed_at)
  if state == 'archived' then
    return moment(score), 7776000
  end
  local ended = moment(completed_at)
  if retention and retention > 0 and retention < 2 ^ 62 then
    return ended, retention
  end
  while score >= 1e12 and score < math.huge do
    score = score / 1000
  end
  return ended, score > now and math.min(score, 253402300799) - (ended or now) or nil
end
local function adopt(id, score)
  local key = prefix .. id
  local task = redis.pcall('HMGET', key, 'state', by_message and 'msg' or '')
  if task.err or task[1] ~= state or redis.call('HSTRLEN', key, 'msg') == 0 then
    return
  end
  local task_type, retention, completed_at
  if task[2] then
    budget = budget - #task[2]
    task_type, retention, completed_at = asynq_ttl_type(task[2])
  end
  if state == 'completed' and retention == 9223372036 then
    return -- a rule for tasks without a Retention keeps it for ever
  end
  local ended, own = ending(score, retention, completed_at)
  local seconds, number = asynq_ttl_pick(rules, task_type, own)
  if not seconds or seconds < 0 or ended and ended < tonumber(ARGV[8]) then
    return
  end
  -- What cannot be dated is never gone at once.
  local due = ended and ended + seconds or now + math.max(seconds, 1)
  local left = due > now and (due - now + rules.grace) * 1000 or tonumber(ARGV[9])
  if ARGV[10] ~= '' then
    redis.call('PEXPIRE', key, string.format('%.0f', left))
    -- The janitor goes by the score; a score in another unit is somebody else's.
    if state == 'completed' and score < 1e12 then
      redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', due), id)
    end
  end
  for _, part in ipairs({id, number, math.floor(left / 1000), ended and 0 or 1, due > now and 0 or 1}) do
    answer[#answer + 1] = part
  end
end
for at = 1, #found, 2 do
  if budget <= 0 then
    answer[3] = (at - 1) / 2
    break
  end
  local score = tonumber(found[at + 1])
  local old = state == 'archived' and moment(score) and score < tonumber(ARGV[8])
  local held = score == held_score and redis.pcall('HEXISTS', prefix .. found[at], 'asynq_ttl_hold') == 1
  if untimed[at] and not old and not held and asynq_ttl_enforces(rules.share, found[at]) then
    adopt(found[at], score)
  end
end
return answer
