-- Looks for a task by its ID: reads it, and looks where its ID stands although the task does not say so.
-- KEYS[1]: its key. ARGV: the prefix of the queue's keys, its ID, how many IDs of a list are looked at, from the end that
-- workers take from.
-- Returns its row (see `read_task`); its score in each sorted set below, or false; for each list below its place counted
-- from that end (0 where it is not among those looked at) and the length of the list; what its uniqueness lock says, for
-- how many milliseconds, and that lock's key; the type of the key that pauses the queue; the keys of another type.
local id, most = ARGV[2], tonumber(ARGV[3])
local row = read_task(id, 'head')
local scores, places = {}, {}
for _, name in ipairs({'archived', 'completed', 'scheduled', 'retry', 'lease', 'deadlines'}) do
  scores[#scores + 1] = ask('ZSCORE', queue .. name, id) or false
end
for _, name in ipairs({'pending', 'active'}) do
  local place, length = 0, ask('LLEN', queue .. name) or 0
  if length > 0 then
    local ids = redis.call('LRANGE', queue .. name, -most, -1)
    for at, found in ipairs(ids) do
      if found == id then
        place = #ids - at + 1
      end
    end
  end
  places[#places + 1], places[#places + 2] = place, length
end
local lock = #row > 1 and ask('HGET', queue .. 't:' .. id, 'unique_key') or ''
local holder = lock ~= '' and ask('GET', lock) or ''
local held_ms = lock ~= '' and redis.call('PTTL', lock) or -2
return {row, scores, places, {holder, held_ms, lock}, redis.call('TYPE', queue .. 'paused').ok, wrong}
