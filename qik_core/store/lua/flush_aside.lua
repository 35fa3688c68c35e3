-- flush_aside: put a whole list aside, so that nobody fetches from it while a flush decides about each of its jobs.
--
-- KEYS[1] list   [2] qik:trash:<flush>:<list>, which must not exist
-- ARGV[1] whose turn it is   [2] for how many ms more
-- returns how many jobs it holds; -1: the turn is somebody else's by now
--
-- Why a script: list and count move together. A count that is above the length proves that somebody has deleted jobs:
-- the roll that this calls for is asked for here, since the proof goes with the count. Locks stay until the job goes.
--
-- include: flusher held take
redis.call("DEL", K.never)
if not has_turn(ARGV[1], ARGV[2]) then return -1 end
local wrong = misfit(KEYS[1], "list", KEYS[2], "none")
if wrong then return wrong end
local length = redis.call("LLEN", KEYS[1])
if length == 0 then return 0 end
if (tonumber(redis.pcall("GET", K.n .. KEYS[1])) or 0) > length then redis.call("SET", K.roll, "1", "EX", 300) end
redis.call("RENAME", KEYS[1], KEYS[2])
redis.call("SADD", K.aside, KEYS[2])
redis.call("DEL", K.n .. KEYS[1])
if KEYS[1]:sub(1, #K.suspect) == K.suspect then redis.call("SREM", K.suspects, KEYS[1]:sub(#K.suspect + 1)) end
return length
