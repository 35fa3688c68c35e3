-- find: which entries of a list's next window contain a text?
--
-- KEYS[1] list
-- ARGV[1] index from the push end   [2] how many to look at   [3] text
-- returns how many were looked at, then those that contain it
--
-- Why a script: a queue of a million jobs is searched where it is, and only what was found travels. At most 500 a call.
--
-- include: epoch locks held take
redis.call("DEL", K.never)
local wrong = misfit(KEYS[1], "list")
if wrong then return wrong end
local raws = redis.call("LRANGE", KEYS[1], ARGV[1], ARGV[1] + ARGV[2] - 1)
local reply = {#raws}
for _, raw in ipairs(raws) do
  if raw:find(ARGV[3], 1, true) then reply[#reply + 1] = raw end
end
return reply
