-- Give the leader's lease back, if it still is the caller's.
--   KEYS[1]  the lease, "fence holder"
--   ARGV[1]  the caller's fence
local lease = redis.call('GET', KEYS[1])
if lease and string.match(lease, '^%d+') == ARGV[1] then
    redis.call('DEL', KEYS[1])
end
