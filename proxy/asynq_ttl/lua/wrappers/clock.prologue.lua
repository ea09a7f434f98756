-- Effects are replicated, not the script: the time is asked for. (Redis 7 and Valkey do nothing else.)
if redis.replicate_commands then
  redis.replicate_commands()
end
local asynq_ttl_clock = tonumber(redis.pcall('TIME')[1])
-- Returns how many seconds a worker's clock is behind Redis's, by which TTLs are counted; 0 for less than ten seconds, which may
-- be the command's own way, and for more than a day, which is no clock but somebody's own idea of time.
local function asynq_ttl_behind(now)
  local behind = asynq_ttl_clock and asynq_ttl_clock - now or 0
  return behind > 10 and behind <= 86400 and behind or 0
end
