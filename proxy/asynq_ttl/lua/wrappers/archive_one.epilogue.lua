if asynq_ttl_reply == 1 or type(asynq_ttl_reply) == 'table' and asynq_ttl_reply.ok then
  local prefix = string.sub(KEYS[task_key], 1, -1 - #ARGV[id_arg])
  if asynq_ttl_hold then
    asynq_ttl_hold_on(KEYS[index_key], KEYS[task_key], ARGV[id_arg], asynq_ttl_hold)
  end
  asynq_ttl_settle(KEYS[index_key], prefix, asynq_ttl_hold and {} or {ARGV[id_arg]})
end
