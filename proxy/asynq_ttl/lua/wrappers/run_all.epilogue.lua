if type(asynq_ttl_reply) ~= 'table' or not asynq_ttl_reply.err then
  for _, id in ipairs(asynq_ttl_ids) do
    redis.pcall('PERSIST', ARGV[prefix_arg] .. id)
  end
  for _, key in ipairs(asynq_ttl_kept) do
    asynq_ttl_restore(key)
  end
  for _, id in ipairs(asynq_ttl_held_ids) do
    if redis.pcall('HGET', ARGV[prefix_arg] .. id, 'state') == 'pending' then
      redis.pcall('HDEL', ARGV[prefix_arg] .. id, 'asynq_ttl_hold')
    end
  end
end
