-- Count outcomes: each token once, and each unit once per metric and stage, in order of stages.
-- For each outcome:
--   KEYS[..]  tokens used, a set that expires; the cell's hash: counters, of cell to number, or
--             moments, of cell to what `packed` gives; the bitmaps of slots met, without the
--             `:stage` that each of them ends in
--   ARGV[..]  token; second at which its set expires; cell; stage; slot, or empty if the unit is
--             not asked for; the pair to merge into the moments, as two little-endian doubles,
--             or empty to count instead
-- Returns for each outcome "counted", "repeated_unit" or "duplicate".
--
-- Every write after a script's first is accepted even if memory runs out meanwhile, so all of
-- the outcomes are counted or none.
local STAGES = 64 -- more than there can be: one for each share of a ramp, at most 20, and one held back

-- The bitmaps of a metric by stage, those that there are: asked for once, not for each outcome.
local known = {}
local function by_stage(bitmaps)
    if known[bitmaps] == nil then
        local there = {}
        for stage = 0, STAGES do
            local bitmap = bitmaps .. ':' .. stage
            if redis.call('EXISTS', bitmap) == 1 then
                there[stage] = bitmap
            end
        end
        known[bitmaps] = there
    end
    return known[bitmaps]
end

local function met(there, stage, slot)
    for later = stage, STAGES do
        if there[later] and redis.call('GETBIT', there[later], slot) == 1 then
            return true
        end
    end
    return false
end

local results = {}
for i = 1, #KEYS / 3 do
    local used, hash, bitmaps = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
    local token, forget_at, cell = ARGV[6 * i - 5], ARGV[6 * i - 4], ARGV[6 * i - 3]
    local stage, slot, pair = tonumber(ARGV[6 * i - 2]), ARGV[6 * i - 1], ARGV[6 * i]

    if redis.call('SISMEMBER', used, token) == 1 then
        results[i] = 'duplicate'
    elseif slot ~= '' and met(by_stage(bitmaps), stage, slot) then
        redis.call('SADD', used, token)
        results[i] = 'repeated_unit'
    else
        redis.call('SADD', used, token)
        if slot ~= '' then
            local bitmap = bitmaps .. ':' .. stage
            redis.call('SETBIT', bitmap, slot, '1')
            by_stage(bitmaps)[stage] = bitmap
        end
        if pair == '' then
            redis.call('HINCRBY', hash, cell, '1')
        else
            merge(moments(hash, cell), struct.unpack('<dd', pair))
        end
        results[i] = 'counted'
    end
    if redis.call('TTL', used) == -1 then
        redis.call('EXPIREAT', used, forget_at)
    end
end

write_moments()
return results
