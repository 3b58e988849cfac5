-- Count outcomes: each token once, and each unit once per metric.
-- For each outcome:
--   KEYS[..]  tokens used, a set that expires; the counters, a hash of cell to number;
--             the bitmap of slots met
--   ARGV[..]  token; second at which its set expires; cell; slot, or empty if each request
--             is a unit of its own
-- Returns for each outcome "counted", "repeated_unit" or "duplicate".
--
-- Every write after a script's first is accepted even if memory runs out meanwhile, so all of
-- the outcomes are counted or none.
local results = {}
for i = 1, #KEYS / 3 do
    local used, counters, bitmap = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
    local token, forget_at = ARGV[4 * i - 3], ARGV[4 * i - 2]
    local cell, slot = ARGV[4 * i - 1], ARGV[4 * i]

    if redis.call('SISMEMBER', used, token) == 1 then
        results[i] = 'duplicate'
    elseif slot ~= '' and redis.call('GETBIT', bitmap, slot) == 1 then
        redis.call('SADD', used, token)
        results[i] = 'repeated_unit'
    else
        redis.call('SADD', used, token)
        if slot ~= '' then
            redis.call('SETBIT', bitmap, slot, '1')
        end
        redis.call('HINCRBY', counters, cell, '1')
        results[i] = 'counted'
    end
    if redis.call('TTL', used) == -1 then
        redis.call('EXPIREAT', used, forget_at)
    end
end
return results
