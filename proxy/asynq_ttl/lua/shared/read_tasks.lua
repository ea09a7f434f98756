-- Reads tasks of one queue by their IDs.
-- KEYS[1]: any key of the queue. ARGV: the prefix of its keys, a budget of bytes, what is wanted (see `read_task`), then IDs.
-- Returns a row (see `read_task`) for each, in their order; the last ones are missing where the budget is spent.
local rows, budget = {}, tonumber(ARGV[2])
for number = 4, #ARGV do
  local row, bytes = read_task(ARGV[number], ARGV[3])
  rows[#rows + 1] = row
  budget = budget - bytes
  if budget < 0 then
    break
  end
end
return rows
