-- cancel: a job must not start, nor go on running, wherever it is; or that is taken back.
--
-- KEYS    none
-- ARGV[1] jid   [2] seconds for which it counts, or nothing to take it back
-- returns time
--
-- Why a script: it counts by the server's clock, and what no longer counts is removed on the way.
--
-- include: epoch
redis.call("DEL", K.never)
redis.call("ZREMRANGEBYSCORE", K.cancelled, "-inf", STAMP)
if ARGV[2] == "" then redis.call("ZREM", K.cancelled, ARGV[1])
else redis.call("ZADD", K.cancelled, string.format("%.6f", NOW + ARGV[2]), ARGV[1]) end
return STAMP
