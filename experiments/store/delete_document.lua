-- Remove a document if it is there.
--   KEYS[1]  documents, a hash of name to "revision:body"
--   KEYS[2]  deadlines, a sorted set of name by the millisecond at which it expires
--   ARGV[1]  name
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
