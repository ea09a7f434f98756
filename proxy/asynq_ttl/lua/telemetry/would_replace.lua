-- Says which mark a wrapper would have replied if it had enqueued a task with this ID; 0 if it had replaced none. Changes nothing.
-- KEYS: the task key, and the lock that the new task takes, if any. ARGV[1]: the wrapper's argument.
return (asynq_ttl_replaceable(KEYS[1], KEYS[2], cjson.decode(ARGV[1])))
