-- Trims the archive, oldest first, up to a score and down to a number of entries.
-- Arguments: the index; the prefix of task keys; the score, `-` for none; by which ranks entries are too many: two from the end,
-- `-` where any number may be; `1` to spare entries without a TTL, else `0`, and the grace in seconds.
local index, prefix, cutoff, low, high, rest = ...
if asynq_ttl_ahead > 0 and cutoff ~= '-' then
  -- A caller whose clock is ahead must not take what is not old enough.
  cutoff = string.format('%.0f', cutoff - asynq_ttl_ahead)
end
local old = cutoff ~= '-' and redis.pcall('ZCOUNT', index, '-inf', cutoff)
old = type(old) == 'number' and old > 0
-- Two ranks tell one too many (the oldest) from more.
local over = low ~= '-' and redis.pcall('ZRANGE', index, low, high) or {}
if not old and not over[1] then
  return
end
