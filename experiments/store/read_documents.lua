-- Read the documents of a kind that have not expired.
--   KEYS[1]  documents, a hash of name to "revision:body"
--   KEYS[2]  deadlines, a sorted set of name by the millisecond at which it expires
--   ARGV[1]  name of the only document wanted; left out for all of them
-- Returns the value of the only document, or nothing; or else of each in one string: the lengths of
-- name and value as little-endian unsigned 32-bit integers, name and value. Of hundreds of
-- documents, hundreds of answers take a client longer to read than to decode.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function expired(name)
    local deadline = redis.call('ZSCORE', KEYS[2], name)
    return deadline and tonumber(deadline) <= now
end

if ARGV[1] then
    local value = redis.call('HGET', KEYS[1], ARGV[1])
    if not value or expired(ARGV[1]) then
        return false
    end
    return value
end

local all = redis.call('HGETALL', KEYS[1])
local may_expire = redis.call('EXISTS', KEYS[2]) == 1
local living = {}
for i = 1, #all, 2 do
    local name, value = all[i], all[i + 1]
    if not (may_expire and expired(name)) then
        living[#living + 1] = struct.pack('<I4I4', #name, #value)
        living[#living + 1] = name
        living[#living + 1] = value
    end
end
return table.concat(living)
