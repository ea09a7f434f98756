-- Finds the commands that the user may not run on a key. Each is tried on one that does not exist, so nothing changes.
-- KEYS[1]: a key that does not exist. ARGV: the commands, each followed by its arguments without the key, separated by
-- spaces.
-- Returns the names of those that are denied.
local denied = {}
for _, command in ipairs(ARGV) do
  local words = {}
  for word in string.gmatch(command, '%S+') do
    words[#words + 1] = word
  end
  if words[1] ~= 'TIME' then
    table.insert(words, 2, KEYS[1])
  end
  local reply = redis.pcall(unpack(words))
  if type(reply) == 'table' and reply.err and
    (string.find(reply.err, 'NOPERM') or string.find(reply.err, "can't run") or string.find(reply.err, 'permissions') or string.find(reply.err, 'ACL')) then
    denied[#denied + 1] = words[1]
  end
end
return denied
