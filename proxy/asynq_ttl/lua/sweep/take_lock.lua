-- Takes the sweeper's lock if it is free, or keeps it for the sidecar that has it.
-- KEYS[1]: the lock. ARGV: the sidecar's token, milliseconds for which the lock is held (0 to write nothing and only say
-- what would be), the coverage of its policy.
-- Returns 1 if the sidecar has the lock; 0 if one with the same coverage has it, 2 if one with another coverage has.
local holder = redis.call('GET', KEYS[1])
local token, coverage = string.match(holder or '', '^(%S+) (%S+)$')
if holder and token ~= ARGV[1] then
  return coverage == ARGV[3] and 0 or 2
end
if ARGV[2] ~= '0' then
  redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[3], 'PX', ARGV[2])
end
return 1
