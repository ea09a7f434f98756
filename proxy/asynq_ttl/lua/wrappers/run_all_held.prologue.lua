-- Which of the tasks are held: a run ends that.
local asynq_ttl_held_ids = redis.pcall('ZRANGEBYSCORE', KEYS[source_key], asynq_ttl_held_score, asynq_ttl_held_score)
