-- Reads one page of an index: what sweeping it and adopting on it have in common.
if redis.replicate_commands then
  redis.replicate_commands() -- effects are replicated, not the script: the time is asked for
end
-- Returns the members of a page and their scores. Five arguments from this number on say which page: 'rank', first rank, last
-- rank, '', '', or 'score', lowest, highest, offset, count.
local function asynq_ttl_page(number)
  if ARGV[number] == 'rank' then
    return redis.call('ZRANGE', KEYS[1], ARGV[number + 1], ARGV[number + 2], 'WITHSCORES')
  end
  local lowest, highest, offset, count = unpack(ARGV, number + 1, number + 4)
  return redis.call('ZRANGEBYSCORE', KEYS[1], lowest, highest, 'WITHSCORES', 'LIMIT', offset, count)
end
