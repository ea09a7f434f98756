-- A ghost of this ID in the index (from an earlier life) has made the script fail half-way: the ID has left the active list and the lease.
-- That is undone, the ghost goes, and the script runs again. To look for ghosts before each run would cost more than this ever does.
if type(asynq_ttl_reply) == 'table' and asynq_ttl_reply.err
  and string.sub(asynq_ttl_reply.err, -#'refusal_text') == 'refusal_text' then
  local state = redis.pcall('HGET', KEYS[task_key], 'state')
  if state ~= 'completed' and type(state) ~= 'table'
    and redis.pcall('ZREM', KEYS[index_key], ARGV[id_arg]) == 1
    and type(redis.pcall('LPUSH', KEYS[active_key], ARGV[id_arg])) == 'number'
    and redis.pcall('ZADD', KEYS[lease_key], '0', ARGV[id_arg]) == 1 then
    asynq_ttl_reply = asynq_ttl_original()
  end
end
