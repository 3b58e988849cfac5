-- Add a batch of evidence, unless it has been added before or something before it is missing.
--   KEYS[1]  positions, a hash of source to how far it has been applied
--   KEYS[..] for each count: the counters, a hash of cell to number
--   KEYS[..] for each set of units: the counters, then the bitmap of slots met in the stage
--   KEYS[..] for each set of values: the moments, then the bitmap of slots met in the stage
--   ARGV[1]  source
--   ARGV[2]  start, ARGV[3] end of the stretch that the batch covers
--   ARGV[4]  number of counts, ARGV[5] number of sets of units
--   ARGV[..] for each count: cell, amount
--   ARGV[..] for each set of units: cell, slots as little-endian unsigned 32-bit integers
--   ARGV[..] for each set of values: cell, values as little-endian pairs of a signed 32-bit slot,
--            -1 where the value is of nobody who could come again, and a double
-- Returns how far the source has been applied.
--
-- The position is written first: if Redis is out of memory it refuses the first write of a
-- script and no later one, so a batch is applied as a whole or not at all.
local applied = redis.call('HGET', KEYS[1], ARGV[1])
if applied and tonumber(applied) ~= tonumber(ARGV[2]) then
    return applied
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])

local key, arg = 2, 6
for _ = 1, tonumber(ARGV[4]) do
    redis.call('HINCRBY', KEYS[key], ARGV[arg], ARGV[arg + 1])
    key, arg = key + 1, arg + 2
end

-- Reading the bitmap once is four times as fast as asking for each bit, and setting only the
-- bits that are new keeps units that come again and again out of the append-only file. Many
-- cells may share a bitmap, as the buckets of a histogram do: what this batch has set in it
-- meanwhile is kept beside what was read.
local read = {}
local function shared(bitmap)
    if not read[bitmap] then
        read[bitmap] = {met = redis.call('GETRANGE', bitmap, 0, -1), set = {}}
    end
    return read[bitmap]
end

-- Says whether the slot had not been met, where `before` is what `shared` gives.
local function mark(bitmap, before, slot)
    local byte = string.byte(before.met, bit.rshift(slot, 3) + 1) or 0
    if before.set[slot] or bit.band(byte, bit.rshift(128, bit.band(slot, 7))) ~= 0 then
        return false
    end
    redis.call('SETBIT', bitmap, string.format('%d', slot), '1')
    before.set[slot] = true
    return true
end

for _ = 1, tonumber(ARGV[5]) do
    local slots, bitmap, fresh = ARGV[arg + 1], KEYS[key + 1], 0
    local before = shared(bitmap)
    for at = 1, #slots, 4 do
        if mark(bitmap, before, struct.unpack('<I4', slots, at)) then
            fresh = fresh + 1
        end
    end
    if fresh > 0 then
        redis.call('HINCRBY', KEYS[key], ARGV[arg], fresh)
    end
    key, arg = key + 2, arg + 2
end

while key <= #KEYS do
    local values, bitmap = ARGV[arg + 1], KEYS[key + 1]
    for at = 1, #values, 12 do
        local slot, value = struct.unpack('<i4d', values, at)
        if slot < 0 or mark(bitmap, shared(bitmap), slot) then
            merge(moments(KEYS[key], ARGV[arg]), value, 0)
        end
    end
    key, arg = key + 2, arg + 2
end
write_moments()
return ARGV[3]
