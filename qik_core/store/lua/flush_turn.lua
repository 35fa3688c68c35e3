-- flush_turn: whose turn it is to flush.
--
-- KEYS    none
-- ARGV[1] who asks   [2] for how many ms it is theirs, unless they go on; 0 gives it up   [3] who has it and is known to
--     have died, or ""
-- returns "" when it is the caller's now, or nobody's any more; else who has it
--
-- Why a script: it is given to one who asks, and given up only by the one who has it, also while Redis is full.
--
-- include:
redis.call("DEL", K.never)
local holder, ms = redis.call("GET", K.flusher), tonumber(ARGV[2])
if holder and holder ~= ARGV[1] and holder ~= ARGV[3] then return ms > 0 and holder or "" end
if ms > 0 then redis.call("SET", K.flusher, ARGV[1], "PX", ms) else redis.call("DEL", K.flusher) end
return ""
