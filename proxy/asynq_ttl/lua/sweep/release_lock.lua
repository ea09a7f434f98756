-- Gives the sweeper's lock back, if the sidecar still has it.
-- KEYS[1]: the lock. ARGV[1]: the sidecar's token. Returns 0.
if string.find(redis.call('GET', KEYS[1]) or '', ARGV[1], 1, true) == 1 then
  redis.call('DEL', KEYS[1])
end
return 0
