local asynq_ttl_now = tonumber(ARGV[time_arg])
ARGV[time_arg] = string.format('%.0f', asynq_ttl_now + asynq_ttl_behind(asynq_ttl_now))
local asynq_ttl_own = asynq_ttl_now - tonumber(ARGV[cutoff_arg])
local asynq_ttl_cap = math.max(tonumber(ARGV[cap_arg]) - 1, 0)
ARGV[cutoff_arg] = '-inf'
ARGV[cap_arg] = '1000000000'
local asynq_ttl_ids = redis.pcall(source_command, KEYS[source_key], 0, -1)
