-- leave: a process that holds nothing more ends.
--
-- KEYS[1] qik:working:<identity> hash   [2] <identity> hash   [3] <identity>:work hash
-- ARGV[1] identity   [2…] its queues
-- returns 1; 0 when jobs are still held, and recovery must look
--
-- Why a script: the look at what is held and the farewell must be one step.
--
-- include:
redis.call("DEL", K.never)
local held = redis.call("HLEN", KEYS[1]) - redis.call("HEXISTS", KEYS[1], "#") - redis.call("HEXISTS", KEYS[1], "@")
if held > 0 then return 0 end
redis.call("UNLINK", KEYS[1], KEYS[3], KEYS[2] .. ":workers", K.wake .. ARGV[1])
redis.call("ZREM", K.alive, ARGV[1])
redis.call("SREM", K.processes, ARGV[1])
for i = 2, #ARGV do redis.call("SREM", K.idle .. ARGV[i], ARGV[1]) end
return 1
