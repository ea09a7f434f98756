-- Reads a page of a list. Asynq pushes at its head, so an ID may be read twice while it is read from there, but none is
-- missed.
-- KEYS[1]: the list. ARGV: the prefix of the queue's keys, the first position, the number of IDs.
-- Returns the IDs, and those of them whose hash is gone or has no message.
local ids = ask('LRANGE', KEYS[1], ARGV[2], tonumber(ARGV[2]) + tonumber(ARGV[3]) - 1) or {}
local gone = {}
for _, id in ipairs(ids) do
  if ask('HEXISTS', queue .. 't:' .. id, 'msg') == 0 then
    gone[#gone + 1] = id
  end
end
return {ids, gone}
