-- witness: which epoch is this, and when was this process here last, as Redis has it?
--
-- KEYS[1] qik:witness hash
-- ARGV[1] candidate epoch   [2] name of the process   [3] "" to look, 1 to forget the process
-- returns epoch, time, the ms that this process has now, those that it had (empty: none), exchanges that were lost,
--     jobs that were deleted by hand
--
-- Why a script: what was there before and what is written now must be of one moment, with the epoch. A number that is
-- lower than the one answered last proves that the data went back; numbers only ever rise, whatever the clock does.
--
-- include: epoch locks
redis.call("DEL", K.never)
local E = open_epoch(ARGV[1])
read_locks(E, {"#"})
local function left(key) -- what is no number of milliseconds was left by somebody else
  local text = redis.call("HGET", key, ARGV[2])
  return text and #text < 16 and tonumber(text:match("^%d+$"))
end
local before = left(KEYS[1])
local now = math.max(math.floor(NOW * 1000), (before or 0) + 1)
if redis.call("HLEN", KEYS[1]) > 500 then -- processes that ended without a word, over months
  redis.call("UNLINK", KEYS[1] .. ":old")
  redis.call("RENAME", KEYS[1], KEYS[1] .. ":old")
  redis.call("EXPIRE", KEYS[1] .. ":old", 600)
elseif not before then
  before = left(KEYS[1] .. ":old")
end
if ARGV[3] == "1" then
  redis.call("HDEL", KEYS[1], ARGV[2])
else
  redis.call("HSET", KEYS[1], ARGV[2], string.format("%.0f", now))
end
local counts = redis.call("HMGET", K.counts, "lost_exchanges", "deleted_by_hand")
return {E.text, STAMP, string.format("%.0f", now), before and string.format("%.0f", before) or "", counts[1] or "0", counts[2] or "0"}
