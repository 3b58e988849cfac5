-- Means and spread that grow by single pairs; comes before each script that keeps them.

-- Moments as they are kept: the number of pairs; for either value the mean, the part of it that
-- is too small to fit in, and the sum of squared deviations; the sum of products of both. Without
-- the small parts a mean of 1e9 would stand still as soon as its steps are below 1e-7.
local LAYOUT = '<I8ddddddd'

-- The moments that this call has changed, by hash and cell: written once, not for each outcome.
local changed = {}
local function moments(hash, cell)
    local cells = changed[hash] or {}
    changed[hash] = cells
    if not cells[cell] then
        local found = redis.call('HGET', hash, cell)
        cells[cell] = found and {struct.unpack(LAYOUT, found)} or {0, 0, 0, 0, 0, 0, 0, 0}
    end
    return cells[cell]
end

local function moved(mean, small, step)
    small = small + step
    local sum = mean + small
    return sum, small - (sum - mean)
end

-- Chan, Golub and LeVeque's pairwise updating, of what there is and a single pair.
local function merge(into, y, x)
    local n, mean, small, m2, mean_x, small_x, m2_x, co = unpack(into, 1, 8)
    local step, step_x = (y - mean) - small, (x - mean_x) - small_x
    local part = 1 / (n + 1)
    local between = n * part
    into[1] = n + 1
    into[2], into[3] = moved(mean, small, step * part)
    into[4] = m2 + step * step * between
    into[5], into[6] = moved(mean_x, small_x, step_x * part)
    into[7] = m2_x + step_x * step_x * between
    into[8] = co + step * step_x * between
end

local function write_moments()
    for hash, cells in pairs(changed) do
        for cell, kept in pairs(cells) do
            redis.call('HSET', hash, cell, struct.pack(LAYOUT, unpack(kept, 1, 8)))
        end
    end
end
