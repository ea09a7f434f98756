if asynq_ttl_reply == 1 or type(asynq_ttl_reply) == 'table' and asynq_ttl_reply.ok then
  local prefix = string.sub(KEYS[task_key], 1, -1 - #ARGV[id_arg])
  asynq_ttl_settle(KEYS[index_key], prefix, {ARGV[id_arg]}, asynq_ttl_now, asynq_ttl_own, asynq_ttl_cap)
end
