-- The script raises at an ID without a message, and leaves it active without a deadline, where nothing ever finds it.
-- So such IDs leave the end of the queue before it is looked at.
for _ = 1, 100 do
  local id = redis.pcall('LINDEX', KEYS[source_key], -1)
  if type(id) ~= 'string' or redis.pcall('HEXISTS', ARGV[prefix_arg] .. id, 'msg') ~= 0 then
    break
  end
  redis.pcall('LREM', KEYS[source_key], -1, id)
  redis.pcall('DEL', ARGV[prefix_arg] .. id)
end
