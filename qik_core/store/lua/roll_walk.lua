-- roll_walk: read some entries of one list or zset, and keep the locks of the jobs found there.
--
-- KEYS[1] list (read from the end where pushes arrive) or zset (by score)
-- ARGV[1] candidate epoch   [2] generation   [3] list: index · zset: score, or -inf   [4] zset: entries of that score
--     already read   [5] how many to read
-- returns 0 when the generation changed, else how many entries were read, next position, entries read of that score
--
-- Why a script: between reading an entry and writing its lock the job could move on.
--
-- include: epoch locks held walk
redis.call("DEL", K.never)
local E = open_epoch(ARGV[1])
if E.gen ~= ARGV[2] or E.prev == "-" then return {-1, "", 0} end
local kind, position, ties, limit = redis.call("TYPE", KEYS[1]).ok, ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local class = class_held_in(KEYS[1])
if class then redis.pcall("HSETNX", K.helds, class, 0) end -- somebody may have deleted that hash
if kind == "list" then
  local raws = redis.call("LRANGE", KEYS[1], position, position + limit - 1)
  keep(E, raws, {})
  return {#raws, tostring(position + #raws), 0}
end
if kind ~= "zset" then return {0, position, 0} end
local rows = redis.call("ZRANGEBYSCORE", KEYS[1], position, "+inf", "WITHSCORES", "LIMIT", ties, limit)
local raws, scores = {}, {}
for i = 1, #rows, 2 do
  raws[#raws + 1], scores[#scores + 1] = rows[i], rows[i + 1]
  if rows[i + 1] ~= position then position, ties = rows[i + 1], 0 end
  ties = ties + 1
end
keep(E, raws, scores)
return {#raws, position, ties}
