-- flush_keep: jobs that stay where they are get the locks again that a new loss id has taken from them.
--
-- KEYS[1] schedule | retry | qik:later:<queue> zset, qik:held:<class> list
-- ARGV[1] candidate epoch   [2] list: index where the caller's window of 500 begins, or ""   [3…] payloads
-- returns how many of them are still there
--
-- Why a script: the job could move on between the look and its lock. Whoever has taken the key meanwhile keeps it. At most 500.
--
-- include: epoch locks wake held take restore
redis.call("DEL", K.never)
local wrong = misfit(KEYS[1], ARGV[2] == "" and "zset" or "list")
if wrong then return wrong end
local E, raws, scores, here = open_epoch(ARGV[1]), {}, {}, {}
if ARGV[2] ~= "" then
  for _, raw in ipairs(redis.call("LRANGE", KEYS[1], ARGV[2], ARGV[2] + 499)) do here[raw] = true end
end
for i = 3, #ARGV do
  local score = ARGV[2] == "" and redis.call("ZSCORE", KEYS[1], ARGV[i])
  if score or here[ARGV[i]] then raws[#raws + 1], scores[#scores + 1] = ARGV[i], score or "" end
end
relock(E, KEYS[1], raws, scores)
return #raws
