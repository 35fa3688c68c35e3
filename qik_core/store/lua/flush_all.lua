-- flush_all: a new loss id, as if all data were lost: every lock is void, passes begin again, starts wait for H + 1 s.
--
-- KEYS    none
-- ARGV[1] candidate epoch   [2] whose turn it is   [3] for how many ms more   [4] the loss id as the caller saw it
--     [5] the new epoch, as a candidate
-- returns the epoch; "" : the turn is somebody else's by now
--
-- Why a script: sent twice, or by two who flush, it is done once. The locks of what runs come back with the next beats.
--
-- include: epoch locks flusher
redis.call("DEL", K.never)
if not has_turn(ARGV[2], ARGV[3]) then return "" end
local E = open_epoch(ARGV[1])
if E.loss ~= ARGV[4] then return E.text end
local old = {K.unique .. E.gen, K.unique .. E.prev}
E.candidate = ARGV[5]
make_epoch(E)
redis.call("UNLINK", unpack(old))
redis.call("DEL", K.roller)
redis.call("SET", K.roll, "1", "EX", 300) -- what waits where the caller has not looked since gets its lock from a walk
return E.text
