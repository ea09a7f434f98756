-- The sidecar's argument. Where it begins with `?` and the caller's time, it is not certain that this is also Redis's time, by which TTLs
-- are counted; so that is asked for. A caller's clock that is behind by less than ten seconds may be the command's own way; by more than a
-- day, it is no clock but somebody's own idea of time.
local asynq_ttl_own, asynq_ttl_ahead = ARGV[#ARGV], 0
ARGV[#ARGV] = nil
if string.byte(asynq_ttl_own) == 63 then
  local now
  now, asynq_ttl_own = string.match(asynq_ttl_own, '^?(%S+) (.*)$')
  -- Effects are replicated, not the script: the time is asked for. (Redis 7 and Valkey do nothing else.)
  if redis.replicate_commands then
    redis.replicate_commands()
  end
  local clock = tonumber(redis.pcall('TIME')[1])
  local behind = clock and clock - now or 0
  asynq_ttl_ahead = math.max(-behind, 0)
  if behind > 10 and behind <= 86400 then
    -- Who removes what is due, or trims, goes by the score: by a clock that is behind the task would go too early.
    ARGV[time_arg] = string.format('%.0f', ARGV[time_arg] + behind)
  end
end
