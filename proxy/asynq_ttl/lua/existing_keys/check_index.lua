-- Reads a page of an index, and finds its entries whose task is not in the state that the index stands for.
-- KEYS[1]: the index. ARGV: the prefix of the queue's keys, the state, the most entries, then score and ID of the last
-- entry of the page before (nothing for the first page).
-- Returns how many entries were read, score and ID of the last one, then ID and state of each that is wrong.
local first = 0
if ARGV[4] ~= '' then
  local rank = ask('ZRANK', KEYS[1], ARGV[5])
  first = rank and rank + 1 or ask('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[4]) or 0
end
local entries = ask('ZRANGE', KEYS[1], first, first + tonumber(ARGV[3]) - 1, 'WITHSCORES') or {}
local found = {#entries / 2, entries[#entries] or '', entries[#entries - 1] or ''}
for at = 1, #entries, 2 do
  -- A key that is no hash says nothing of a state.
  local state = ask('HGET', queue .. 't:' .. entries[at], 'state')
  if state ~= nil and state ~= ARGV[2] then
    found[#found + 1] = entries[at]
    found[#found + 1] = state or ''
  end
end
return found
