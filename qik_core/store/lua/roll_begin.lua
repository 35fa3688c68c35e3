-- roll_begin: make a new generation; the walk then moves into it the locks behind which a job stands.
--
-- KEYS    none
-- ARGV[1] candidate epoch   [2] the new generation   [3] who walks   [4] seconds for which nobody else may
-- returns epoch, 1 when the caller is the one who walks
--
-- Why a script: one at a time, and no generation is made while the previous one still stands: a roll that died is
-- walked again in the generation that it made.
--
-- include: epoch locks
redis.call("DEL", K.never)
local E = open_epoch(ARGV[1])
read_locks(E, {"#"})
local holder = redis.call("GET", K.roller)
if holder and holder ~= ARGV[3] then return {E.text, 0} end
redis.call("SET", K.roller, ARGV[3], "EX", ARGV[4])
if E.prev == "-" then
  E.text = E.loss .. " " .. ARGV[2] .. " " .. E.gen .. " " .. string.format("%.0f", E.birth)
  redis.call("SET", K.epoch, E.text)
  redis.call("HSET", K.unique .. ARGV[2], "#", "1")
end
return {E.text, 1}
