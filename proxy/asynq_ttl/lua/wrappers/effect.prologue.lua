-- The sidecar's argument, as JSON: what the queue's keys start with, the share of a rollout, the grace in seconds, the score of
-- what is kept for ever, and for each terminal state the rules that can apply; none where no rule says anything about it.
local asynq_ttl_ends = cjson.decode(table.remove(ARGV))
-- Returns the score of a task in an index; nil without one. (A script may have turned to RESP 3, which wraps it.)
local function asynq_ttl_score(index, id)
  local score = redis.pcall('ZSCORE', index, id)
  return tonumber(type(score) == 'table' and score.double or score)
end
-- What each task of the queue among KEYS is before the script runs. Noted here, since a script may change KEYS.
local asynq_ttl_tasks = {}
for _, key in ipairs(KEYS) do
  local prefix = asynq_ttl_ends.queue .. 't:'
  if string.sub(key, 1, #prefix) == prefix then
    local task = {key = key, id = string.sub(key, #prefix + 1), state = redis.pcall('HGET', key, 'state')}
    task.completed = asynq_ttl_score(asynq_ttl_ends.queue .. 'completed', task.id)
    if task.state == 'archived' then
      task.archived = asynq_ttl_score(asynq_ttl_ends.queue .. 'archived', task.id)
    end
    -- A ghost of this ID among the completed tasks (from an earlier life) can make a script fail half-way.
    if task.completed and asynq_ttl_elsewhere(task.state, 'completed') then
      redis.pcall('ZREM', asynq_ttl_ends.queue .. 'completed', task.id)
      task.completed = nil
    end
    task.held = task[task.state] == tonumber(asynq_ttl_held_score) and redis.pcall('HGET', key, 'asynq_ttl_hold')
    asynq_ttl_tasks[#asynq_ttl_tasks + 1] = task
  end
end
