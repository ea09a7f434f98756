-- Says whether the task is a completed one that is held. Argument: what its hash says of a hold.
local completed = string.sub(KEYS[index_key], 1, -1 - #'archived') .. 'completed'
return redis.pcall('HGET', KEYS[task_key], 'state') == 'completed' and asynq_ttl_is_held(completed, ARGV[id_arg], ...)
