-- Replace a document if nobody else has since the caller read it, and tell its watchers.
--   KEYS[1]  documents, a hash of name to "revision:body"
--   KEYS[2]  deadlines, a sorted set of name by the millisecond at which it expires
--   KEYS[3]  the leader's lease, "fence holder"; gone once it has expired
--   ARGV[1]  name
--   ARGV[2]  body
--   ARGV[3]  revision the caller read: 0 if there was none, -1 if it does not matter
--   ARGV[4]  fence that must be the leader's, or empty
--   ARGV[5]  channel of the kind
-- Returns {"written", new revision}, {"stale", revision found} or {"lost", 0}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if ARGV[4] ~= '' then
    local lease = redis.call('GET', KEYS[3])
    if not lease or string.match(lease, '^%d+') ~= ARGV[4] then
        return {'lost', 0}
    end
end

local found = 0
local value = redis.call('HGET', KEYS[1], ARGV[1])
local deadline = redis.call('ZSCORE', KEYS[2], ARGV[1])
if value and not (deadline and tonumber(deadline) <= now) then
    found = tonumber(string.match(value, '^%d+'))
end
local expected = tonumber(ARGV[3])
if expected ~= -1 and expected ~= found then
    return {'stale', found}
end

redis.call('HSET', KEYS[1], ARGV[1], string.format('%d:', found + 1) .. ARGV[2])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('PUBLISH', ARGV[5], ARGV[1])
return {'written', found + 1}
