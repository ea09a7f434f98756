-- The sidecar's argument: how many milliseconds the history is to live from now on.
local asynq_ttl_ms = ARGV[#ARGV]
ARGV[#ARGV] = nil
