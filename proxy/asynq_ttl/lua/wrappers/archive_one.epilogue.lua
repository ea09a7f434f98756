if asynq_ttl_reply == 1 or type(asynq_ttl_reply) == 'table' and asynq_ttl_reply.ok then
  if asynq_ttl_hold then
    asynq_ttl_keep_held(asynq_ttl_hold)
  end
  local prefix = string.sub(KEYS[task_key], 1, -1 - #ARGV[id_arg])
  asynq_ttl_settle(KEYS[index_key], prefix, asynq_ttl_hold and {} or {ARGV[id_arg]})
end
