-- Reads tasks of one queue by their IDs.
-- KEYS[1]: any key of the queue. ARGV: what its keys start with, a budget of bytes, `whole`, `digest` or `head`, then IDs.
-- Returns a row for each, in their order; fewer than there are IDs where the budget is spent.
local rows, budget = {}, tonumber(ARGV[2])
for number = 4, #ARGV do
  local row, taken = read_task(ARGV[number], ARGV[3])
  rows[#rows + 1] = row
  budget = budget - taken
  if budget < 0 then
    break
  end
end
return rows
