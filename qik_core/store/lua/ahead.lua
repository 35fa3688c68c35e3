-- ahead: how many jobs of a list are fetched before a certain one?
--
-- KEYS[1] list
-- ARGV[1] how many at the fetch end to pass over   [2] how many to look at   [3] text
--     [4] 1: that the job contains; else how it begins
-- returns length, the job's place from the fetch end, 1 for the next (0: not among these), the job
--
-- Why a script: a queue of 100,000 jobs is searched where it is, and only the one that is asked for travels. At most 500 a call.
--
-- include: held take
redis.call("DEL", K.never)
local wrong = misfit(KEYS[1], "list")
if wrong then return wrong end
local skip, count, text = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local length, raws = redis.call("LLEN", KEYS[1]), redis.call("LRANGE", KEYS[1], -skip - count, -skip - 1)
for i = #raws, 1, -1 do
  local raw = raws[i]
  if raw:sub(1, #text) == text or (ARGV[4] == "1" and raw:find(text, 1, true)) then
    return {length, skip + #raws - i + 1, raw}
  end
end
return {length, 0, ""}
