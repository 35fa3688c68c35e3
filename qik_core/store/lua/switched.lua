-- switched: how many jobs a flag has stopped; the count begins anew.
--
-- KEYS    none
-- ARGV[1] flag
-- returns the count
--
-- Why a script: of many processes that notice the end of a flag one is told the count. It must work on a full Redis.
--
-- include:
redis.call("DEL", K.never)
local count = redis.call("HGET", K.switched, ARGV[1])
redis.call("HDEL", K.switched, ARGV[1])
return count and #count < 16 and tonumber(count:match("^%d+$")) or 0
