-- The sidecar's argument: milliseconds to live (0 for ever, -1 not at all, -2 as Asynq has it), the score up to which the archive is
-- trimmed ('-' for none), the most entries kept (-1 for any number), 1 to spare entries without a TTL, the grace in seconds.
local asynq_ttl_ms, asynq_ttl_cutoff, asynq_ttl_cap, asynq_ttl_spare, asynq_ttl_grace =
  string.match(ARGV[#ARGV], '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
ARGV[#ARGV] = nil
local asynq_ttl_now = tonumber(ARGV[time_arg])
ARGV[time_arg] = string.format('%.0f', asynq_ttl_now + asynq_ttl_behind(asynq_ttl_now))
