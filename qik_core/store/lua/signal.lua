-- signal: ask a process to be quiet, to stop, or to say what its threads do; it looks at its next beat.
--
-- KEYS[1] <identity>-signals list   [2] <identity> hash
-- ARGV[1] TSTP | TERM | TTIN
-- returns 1 when it was asked, 0 when there is no such process
--
-- Why a script: a list without a TTL would wait for ever for a process that has ended.
--
-- include:
redis.call("DEL", K.never)
if redis.call("EXISTS", KEYS[2]) == 0 then return 0 end
redis.call("LPUSH", KEYS[1], ARGV[1])
redis.call("EXPIRE", KEYS[1], 60)
return 1
