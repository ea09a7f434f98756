local asynq_ttl_now = tonumber(ARGV[time_arg])
ARGV[time_arg] = string.format('%.0f', asynq_ttl_now + asynq_ttl_behind(asynq_ttl_now))
local asynq_ttl_own = asynq_ttl_now - tonumber(ARGV[cutoff_arg])
local asynq_ttl_cap = math.max(tonumber(ARGV[cap_arg]) - 1, 0)
-- The script's own trims leave hashes behind; they find nothing to do, and the epilogue trims instead.
ARGV[cutoff_arg] = '-inf'
ARGV[cap_arg] = '1000000000'
