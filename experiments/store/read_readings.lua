-- Read everything counted for an experiment, as of one moment.
--   KEYS[1]  counters, a hash of cell to number
--   KEYS[2]  moments, a hash of cell to what observe_outcomes.lua packs
-- Returns three strings: the counters as cell, number, cell, number, ... and the moments' cells,
-- both a line each, and the moments one after the other.
--
-- There may be ten thousands of cells, and a client takes one long string much faster than as
-- many short ones.
local moments = redis.call('HGETALL', KEYS[2])
local cells, kept = {}, {}
for i = 1, #moments, 2 do
    cells[#cells + 1] = moments[i]
    kept[#kept + 1] = moments[i + 1]
end
local counters = redis.call('HGETALL', KEYS[1])
return {table.concat(counters, '\n'), table.concat(cells, '\n'), table.concat(kept)}
