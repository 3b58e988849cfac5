-- Add a batch of evidence, unless it has been added before or something before it is missing.
--   KEYS[1]  positions, a hash of source to how far it has been applied
--   KEYS[..] for each count: the counters, a hash of cell to number
--   KEYS[..] for each set of units: the counters, then the bitmap of slots met in the stage
--   ARGV[1]  source
--   ARGV[2]  start, ARGV[3] end of the stretch that the batch covers
--   ARGV[4]  number of counts
--   ARGV[..] for each count: cell, amount
--   ARGV[..] for each set of units: cell, slots as little-endian unsigned 32-bit integers
-- Returns how far the source has been applied.
--
-- The position is written first: if Redis is out of memory it refuses the first write of a
-- script and no later one, so a batch is applied as a whole or not at all.
local applied = redis.call('HGET', KEYS[1], ARGV[1])
if applied and tonumber(applied) ~= tonumber(ARGV[2]) then
    return applied
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])

local key, arg = 2, 5
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

local function mark(bitmap, slots)
    local before = shared(bitmap)
    local met, set = before.met, before.set
    local fresh = 0
    for at = 1, #slots, 4 do
        local slot = struct.unpack('<I4', slots, at)
        local byte = string.byte(met, bit.rshift(slot, 3) + 1) or 0
        if not set[slot] and bit.band(byte, bit.rshift(128, bit.band(slot, 7))) == 0 then
            redis.call('SETBIT', bitmap, string.format('%d', slot), '1')
            set[slot] = true
            fresh = fresh + 1
        end
    end
    return fresh
end

while key <= #KEYS do
    local fresh = mark(KEYS[key + 1], ARGV[arg + 1])
    if fresh > 0 then
        redis.call('HINCRBY', KEYS[key], ARGV[arg], fresh)
    end
    key, arg = key + 2, arg + 2
end
return ARGV[3]
