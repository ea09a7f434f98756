-- The sidecar's argument: which ended tasks of the queue are replaced, as JSON. It is looked at only where the script has refused.
local asynq_ttl_told = table.remove(ARGV)
