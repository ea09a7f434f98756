-- Effects are replicated, not the script: it may ask for the time. (Redis 7 and Valkey do nothing else.)
if redis.replicate_commands then
  redis.replicate_commands()
end
-- Returns Redis's time in seconds; nil where nobody may ask for it.
local function asynq_ttl_time()
  return tonumber(redis.pcall('TIME')[1])
end
