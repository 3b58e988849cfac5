-- Count outcomes: each token once, and each unit once per metric and stage, in order of stages.
-- For each outcome:
--   KEYS[..]  tokens used, a set that expires; the counters, a hash of cell to number;
--             the bitmaps of slots met, without the `:stage` that each of them ends in
--   ARGV[..]  token; second at which its set expires; cell; stage; slot, or empty if each
--             request is a unit of its own
-- Returns for each outcome "counted", "repeated_unit" or "duplicate".
--
-- Every write after a script's first is accepted even if memory runs out meanwhile, so all of
-- the outcomes are counted or none.
local STAGES = 64 -- more than any ramp has

-- Which bitmaps there are, so that each outcome asks only those.
local there = {}
local function exists(bitmap)
    if there[bitmap] == nil then
        there[bitmap] = redis.call('EXISTS', bitmap) == 1
    end
    return there[bitmap]
end

local function met(bitmaps, stage, slot)
    for later = stage, STAGES do
        local bitmap = bitmaps .. ':' .. later
        if exists(bitmap) and redis.call('GETBIT', bitmap, slot) == 1 then
            return true
        end
    end
    return false
end

local results = {}
for i = 1, #KEYS / 3 do
    local used, counters, bitmaps = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
    local token, forget_at, cell = ARGV[5 * i - 4], ARGV[5 * i - 3], ARGV[5 * i - 2]
    local stage, slot = tonumber(ARGV[5 * i - 1]), ARGV[5 * i]

    if redis.call('SISMEMBER', used, token) == 1 then
        results[i] = 'duplicate'
    elseif slot ~= '' and met(bitmaps, stage, slot) then
        redis.call('SADD', used, token)
        results[i] = 'repeated_unit'
    else
        redis.call('SADD', used, token)
        if slot ~= '' then
            local bitmap = bitmaps .. ':' .. string.format('%d', stage)
            redis.call('SETBIT', bitmap, slot, '1')
            there[bitmap] = true
        end
        redis.call('HINCRBY', counters, cell, '1')
        results[i] = 'counted'
    end
    if redis.call('TTL', used) == -1 then
        redis.call('EXPIREAT', used, forget_at)
    end
end
return results
