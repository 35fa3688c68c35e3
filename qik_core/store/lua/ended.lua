-- ended: the oldest records of jobs that have ended, left where they are.
--
-- KEYS    none
-- ARGV[1] how many at most   [2] seconds for which it is known that somebody reads
-- returns the records, the oldest last
--
-- Why a script: that somebody reads must be written on a full Redis too. At most 500 records.
--
-- include:
redis.call("DEL", K.never)
local records = redis.call("LRANGE", K.ended, -ARGV[1], -1)
redis.call("SET", K.ended_read, "1", "EX", ARGV[2])
return records
