-- Write a document that expires, and tell its watchers.
--   KEYS[1]  documents, a hash of name to "revision:body"
--   KEYS[2]  deadlines, a sorted set of name by the millisecond at which it expires
--   ARGV[1]  name
--   ARGV[2]  body
--   ARGV[3]  milliseconds to live
--   ARGV[4]  channel of the kind
--   ARGV[5]  1 if it need not outlive Redis: then nobody waits for the disk
-- Hash fields cannot expire by themselves, so each beat sweeps out what has.
if ARGV[5] == '1' then
    redis.set_repl(redis.REPL_NONE)
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%d', now))) do
    redis.call('HDEL', KEYS[1], name)
    redis.call('ZREM', KEYS[2], name)
end

local value = redis.call('HGET', KEYS[1], ARGV[1])
local found = value and tonumber(string.match(value, '^%d+')) or 0
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d:', found + 1) .. ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%d', now + ARGV[3]), ARGV[1])
redis.call('PUBLISH', ARGV[4], ARGV[1])
return found + 1
