-- The sidecar's argument: milliseconds to live; 0 for ever, -1 not at all.
local asynq_ttl_ms = tonumber(table.remove(ARGV))
-- A ghost of this ID in the index (from an earlier life) would make the script fail half-way.
if redis.pcall('ZSCORE', KEYS[index_key], ARGV[id_arg])
  and redis.pcall('HGET', KEYS[task_key], 'state') ~= 'completed' then
  redis.pcall('ZREM', KEYS[index_key], ARGV[id_arg])
end
