-- Reads one page of an index of a queue, lowest scores first, with the tasks it names.
-- KEYS[1]: the index. ARGV: what the queue's keys start with, a budget of bytes, `whole`, `digest` or `head`, the most entries,
-- then score and ID of the last entry of the page before (nothing for the first page).
-- Entries that leave the index between two pages make none be passed over.
-- Returns ID, score and row of each, one after the other.
local first, passed = 0, ARGV[5] == ''
if not passed then
  local rank = redis.call('ZRANK', KEYS[1], ARGV[6])
  if rank and redis.call('ZSCORE', KEYS[1], ARGV[6]) == ARGV[5] then
    first, passed = rank + 1, true
  else
    first = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[5])
  end
end
local entries = redis.call('ZRANGE', KEYS[1], first, first + tonumber(ARGV[4]) - 1, 'WITHSCORES')
local found, budget = {}, tonumber(ARGV[2])
for at = 1, #entries, 2 do
  local row, taken = read_task(entries[at], ARGV[3])
  found[#found + 1], found[#found + 2], found[#found + 3] = entries[at], entries[at + 1], row
  budget = budget - taken
  if budget < 0 then
    break
  end
end
return found
