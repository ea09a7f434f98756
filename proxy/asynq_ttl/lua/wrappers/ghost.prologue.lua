-- A ghost of this ID in the index (from an earlier life) would make the script fail half-way.
if redis.pcall('ZSCORE', KEYS[index_key], ARGV[id_arg]) then
  local state = redis.pcall('HGET', KEYS[task_key], 'state')
  if state ~= 'completed' and type(state) ~= 'table' then
    redis.pcall('ZREM', KEYS[index_key], ARGV[id_arg])
  end
end
