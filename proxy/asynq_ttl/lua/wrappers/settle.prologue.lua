-- The sidecar's argument is that of `archive.epilogue`. Where a task's milliseconds depend on its type or ID, they are `*`, and
-- behind the rest is what `lives.prologue` reads.
-- Gives archived tasks what their rules say, then trims the archive.
local function asynq_ttl_settle(index, prefix, ids)
  local ms, cutoff, low, high, rest, more =
    string.match(asynq_ttl_own, '^(%S+) (%S+) (%S+) (%S+) (%S+ %S+) ?(.*)$')
  local lives_by, unwanted = ms == '*' and asynq_ttl_lives(more), {}
  for _, id in ipairs(ids) do
    local key, lives, msg = prefix .. id, ms, nil
    if lives_by then
      msg = redis.pcall('HGET', key, 'msg')
    else
      -- Only whether there is a message is asked for: it may be large, and there may be many.
      msg = redis.pcall('HEXISTS', key, 'msg')
    end
    if not msg or msg == 0 then
      redis.pcall('ZREM', index, id)
      redis.pcall('DEL', key)
    elseif type(msg) ~= 'table' and (says_ended or redis.pcall('HGET', key, 'state') == 'archived') then
      if lives_by then
        lives = lives_by(id, msg)
      end
      if lives == '-1' then
        unwanted[#unwanted + 1] = id
      elseif lives == '0' then
        redis.pcall('PERSIST', key)
      else
        redis.pcall('PEXPIRE', key, lives)
      end
    end
    if #unwanted == 1000 then
      asynq_ttl_remove(index, prefix, unwanted)
      unwanted = {}
    end
  end
  if unwanted[1] then
    asynq_ttl_remove(index, prefix, unwanted)
  end
  asynq_ttl_trim(index, prefix, cutoff, low, high, rest)
end
