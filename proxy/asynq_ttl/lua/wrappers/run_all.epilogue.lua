if type(asynq_ttl_reply) ~= 'table' or not asynq_ttl_reply.err then
  for at, key in ipairs(asynq_ttl_keys) do
    -- What has had a TTL has ended, and so has a message. What has none is no task, unless it is another program's: it leaves with its
    -- hash.
    if redis.pcall('PERSIST', key) ~= 1 and not asynq_ttl_strange[key] and redis.pcall('HEXISTS', key, 'msg') == 0 then
      redis.pcall('ZREM', KEYS[source_key], asynq_ttl_ids[at])
      if redis.pcall('LREM', KEYS[pending_key], 1, asynq_ttl_ids[at]) == 1 and type(asynq_ttl_reply) == 'number' then
        asynq_ttl_reply = asynq_ttl_reply - 1
      end
      redis.pcall('DEL', key)
    end
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
