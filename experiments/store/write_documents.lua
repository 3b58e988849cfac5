-- Replace documents, all or none, if nobody else has since the caller read them; tell watchers.
--   KEYS[1]  the leader's lease, "fence holder"; gone once it has expired
--   KEYS[..] for each write: documents, a hash of name to "revision:body"
--            and deadlines, a sorted set of name by the millisecond at which it expires
--   ARGV[1]  fence that must be the leader's, or empty
--   ARGV[..] for each write: name, body, revision the caller read (0 if there was none, -1 if it
--            does not matter), channel of the kind
-- Returns {"written", new revision, ...}, {"stale", which write, revision found} or {"lost"}.
--
-- Nothing is written before everything was looked at. A document is written first: if Redis is
-- out of memory it refuses the first write of a script and no later one. In the append-only file
-- a script is one transaction, and of a transaction that was cut short nothing is loaded.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if ARGV[1] ~= '' then
    local lease = redis.call('GET', KEYS[1])
    if not lease or string.match(lease, '^%d+') ~= ARGV[1] then
        return {'lost'}
    end
end

local writes = (#KEYS - 1) / 2
local answer = {'written'}
for n = 1, writes do
    local documents, deadlines, name = KEYS[2 * n], KEYS[2 * n + 1], ARGV[4 * n - 2]
    local found = 0
    local value = redis.call('HGET', documents, name)
    local deadline = redis.call('ZSCORE', deadlines, name)
    if value and not (deadline and tonumber(deadline) <= now) then
        found = tonumber(string.match(value, '^%d+'))
    end
    local expected = tonumber(ARGV[4 * n])
    if expected ~= -1 and expected ~= found then
        return {'stale', n, found}
    end
    answer[n + 1] = found + 1
end

for n = 1, writes do
    local documents, deadlines, name = KEYS[2 * n], KEYS[2 * n + 1], ARGV[4 * n - 2]
    redis.call('HSET', documents, name, string.format('%d:', answer[n + 1]) .. ARGV[4 * n - 1])
    redis.call('ZREM', deadlines, name)
    redis.call('PUBLISH', ARGV[4 * n + 1], name)
end
return answer
