-- fence: shut a dead process out, and take what it held aside for recovery.
--
-- KEYS[1] qik:working:<identity> hash   [2] qik:recovering:<identity> hash   [3] <identity> hash   [4] <identity>:work hash
-- ARGV[1] identity   [2] its last beat as the observer saw it, - for none, sure when its end was witnessed
-- returns 1 when it is fenced now or was before, 0 when it has beaten since
--
-- Why a script: the look at the beat, the RENAME and the refusal must be one step, so that a process that thaws in the
-- middle either is not fenced or can neither settle, fetch nor beat.
--
-- include:
redis.call("DEL", K.never)
local beat = redis.call("ZSCORE", K.alive, ARGV[1]) or "-"
local fenced, sure = redis.call("HGET", KEYS[1], "#") == "fenced", ARGV[2] == "sure"
if not fenced and not sure and ARGV[2] ~= beat then return 0 end
if not fenced then
  if redis.call("EXISTS", KEYS[1]) == 1 and redis.call("EXISTS", KEYS[2]) == 0 then
    redis.call("RENAME", KEYS[1], KEYS[2])
  end
  if not sure then -- it may only be frozen; what has surely ended needs no fence
    redis.call("HSET", KEYS[1], "#", "fenced")
    redis.call("EXPIRE", KEYS[1], 86400)
  end
end
redis.call("ZREM", K.alive, ARGV[1])
redis.call("SREM", K.processes, ARGV[1])
redis.call("UNLINK", KEYS[3], KEYS[4], KEYS[3] .. ":workers", K.wake .. ARGV[1])
return 1
