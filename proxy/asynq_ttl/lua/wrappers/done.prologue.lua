-- The sidecar's argument: the rules that can apply to tasks of this queue that succeed without a Retention, as JSON. The script
-- deletes the task's hash, so what is in it is read before.
local asynq_ttl_rules = cjson.decode(table.remove(ARGV))
local asynq_ttl_fields = redis.pcall('HGETALL', KEYS[task_key])
