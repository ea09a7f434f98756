-- The script deletes the hash of every due member, whatever state it is in. A member whose hash belongs to a
-- later life of the ID, or is gone, leaves the index here, so that no live task is deleted. The script then gets to
-- see no more members than were looked at: what moves up behind them waits for the next call.
-- With a sink, the sidecar's argument says so: what has a TTL is left to the sweeper, which hands it over. The rest of
-- what is due goes here, up to ten batches a call, and the script gets to see nothing.
local asynq_ttl_leave = ARGV[#ARGV] == 'asynq-ttl-leave-due'
if asynq_ttl_leave then
  ARGV[#ARGV] = nil
end
local asynq_ttl_batch, asynq_ttl_clean = tonumber(ARGV[batch_arg]), 0
for _ = 1, 10 do
  local due = redis.pcall('ZRANGEBYSCORE', KEYS[index_key], '-inf', ARGV[time_arg],
    'LIMIT', asynq_ttl_clean, asynq_ttl_leave and asynq_ttl_batch or asynq_ttl_batch - asynq_ttl_clean)
  if #due == 0 then
    break
  end
  for _, id in ipairs(due) do
    local state = redis.pcall('HGET', ARGV[prefix_arg] .. id, 'state')
    if asynq_ttl_elsewhere(state, 'completed') then
      redis.pcall('ZREM', KEYS[index_key], id)
    elseif asynq_ttl_leave and state == 'completed' and redis.pcall('PTTL', ARGV[prefix_arg] .. id) == -1
      and type(redis.pcall('DEL', ARGV[prefix_arg] .. id)) == 'number' then
      redis.pcall('ZREM', KEYS[index_key], id)
    else
      asynq_ttl_clean = asynq_ttl_clean + 1
    end
  end
end
ARGV[batch_arg] = tostring(asynq_ttl_leave and 0 or asynq_ttl_clean)
