-- Reads one page of an index, lowest scores first, with the tasks it names.
-- KEYS[1]: the index. ARGV: the prefix of the queue's keys, a budget of bytes, what is wanted (see `read_task`), the most
-- entries, then score and ID of the last entry of the page before (nothing for the first page).
-- No entry is missed where others are removed between two pages: the page begins after the last entry if that is still
-- in its place, else with all entries of its score.
-- Returns ID, score and row (see `read_task`) of each, one after the other. The page ends where the budget is spent.
-- Of an index that is no sorted set nothing is returned.
local first = 0
if ARGV[5] ~= '' then
  local rank = ask('ZRANK', KEYS[1], ARGV[6])
  if rank and ask('ZSCORE', KEYS[1], ARGV[6]) == ARGV[5] then
    first = rank + 1
  else
    first = ask('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[5]) or 0
  end
end
local entries = ask('ZRANGE', KEYS[1], first, first + tonumber(ARGV[4]) - 1, 'WITHSCORES') or {}
local found, budget = {}, tonumber(ARGV[2])
for at = 1, #entries, 2 do
  local row, bytes = read_task(entries[at], ARGV[3])
  found[#found + 1], found[#found + 2], found[#found + 3] = entries[at], entries[at + 1], row
  budget = budget - bytes
  if budget < 0 then
    break
  end
end
return found
