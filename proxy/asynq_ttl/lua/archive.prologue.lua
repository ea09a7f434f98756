-- The sidecar's argument: milliseconds to live (0 for ever, -1 not at all, -2 as Asynq has it), the score up to which the archive is
-- trimmed ('-' for none), the most entries kept (-1 for any number), 1 to spare entries without a TTL.
local asynq_ttl_ms, asynq_ttl_cutoff, asynq_ttl_cap, asynq_ttl_spare =
  string.match(ARGV[#ARGV], '^(%S+) (%S+) (%S+) (%S+)$')
ARGV[#ARGV] = nil
