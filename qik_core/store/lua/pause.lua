-- pause: a queue is passed over by every fetch from now on, or is served again.
--
-- KEYS    none
-- ARGV[1] queue   [2] 1 pause, 0 resume
-- returns 1 when that changed something
--
-- Why a script: who sleeps because a queue was passed over must be woken when it is served again.
--
-- include: wake
redis.call("DEL", K.never)
if ARGV[2] == "1" then return redis.call("SADD", K.paused, ARGV[1]) end
local changed = redis.call("SREM", K.paused, ARGV[1])
if changed == 1 then wake(ARGV[1], 100) end
return changed
