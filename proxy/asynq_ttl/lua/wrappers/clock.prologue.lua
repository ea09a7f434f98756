-- Effects are replicated, not the script: the time is asked for. (Redis 7 and Valkey do nothing else.)
if redis.replicate_commands then
  redis.replicate_commands()
end
local asynq_ttl_clock = tonumber(redis.pcall('TIME')[1])
