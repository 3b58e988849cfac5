-- Take the leader's lease, or keep it.
--   KEYS[1]  the lease, "fence holder"; expires by itself
--   KEYS[2]  the last fence that was given out
--   ARGV[1]  holder
--   ARGV[2]  milliseconds to hold it
-- Returns the fence, or nothing if another holds the lease.
--
-- A new fence is never below the clock: if Redis loses all its data and counts anew, a leader
-- from before still cannot hold the same fence as the next one.
local lease = redis.call('GET', KEYS[1])
if lease then
    local fence, holder = string.match(lease, '^(%d+) (.*)$')
    if holder ~= ARGV[1] then
        return false
    end
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return fence
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local fence = string.format('%d', math.max(last + 1, now))
redis.call('SET', KEYS[2], fence)
redis.call('SET', KEYS[1], fence .. ' ' .. ARGV[1], 'PX', ARGV[2])
return fence
