if type(asynq_ttl_reply) ~= 'table' or not asynq_ttl_reply.err then
  asynq_ttl_settle(KEYS[index_key], ARGV[prefix_arg], asynq_ttl_ids)
end
