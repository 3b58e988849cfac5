-- Read the documents of a kind that have not expired.
--   KEYS[1]  documents, a hash of name to "revision:body"
--   KEYS[2]  deadlines, a sorted set of name by the millisecond at which it expires
--   ARGV[1]  name of the only document wanted; left out for all of them
-- Returns name, value, name, value, ...
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function expired(name)
    local deadline = redis.call('ZSCORE', KEYS[2], name)
    return deadline and tonumber(deadline) <= now
end

if ARGV[1] then
    local value = redis.call('HGET', KEYS[1], ARGV[1])
    if not value or expired(ARGV[1]) then
        return {}
    end
    return {ARGV[1], value}
end

local all = redis.call('HGETALL', KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 0 then
    return all
end
local living = {}
for i = 1, #all, 2 do
    if not expired(all[i]) then
        living[#living + 1] = all[i]
        living[#living + 1] = all[i + 1]
    end
end
return living
