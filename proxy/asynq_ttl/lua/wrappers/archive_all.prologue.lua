local asynq_ttl_ids = redis.pcall(source_command, KEYS[source_key], 0, source_last)
