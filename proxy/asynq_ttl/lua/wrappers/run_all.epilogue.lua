if type(asynq_ttl_reply) ~= 'table' or not asynq_ttl_reply.err then
  for _, id in ipairs(asynq_ttl_ids) do
    redis.pcall('PERSIST', ARGV[prefix_arg] .. id)
    asynq_ttl_restore(ARGV[prefix_arg] .. id)
  end
end
