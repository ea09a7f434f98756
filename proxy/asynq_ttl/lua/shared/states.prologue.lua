-- Says whether a task is elsewhere than an entry of an index says: its hash is gone, or in another one of Asynq's states. What is
-- in a state that is not known, or that cannot be looked at, may well be where it belongs.
local function asynq_ttl_elsewhere(state, index_state)
  return not state or type(state) == 'string' and state ~= index_state
    and string.find(' pending active scheduled retry archived completed aggregating ', ' ' .. state .. ' ', 1, true) ~= nil
end
