-- flush_keep: jobs that stay where they are get the locks again that a new loss id has taken from them, or that a roll
-- under way may pass over.
--
-- KEYS[1] schedule | retry | qik:later:<queue> zset, queue:<queue> | qik:suspect:<queue> | qik:held:<class> list
-- ARGV[1] candidate epoch   [2] whose turn it is   [3] for how many ms more   [4] list | zset: what KEYS[1] must be
--     [5] list: index where the caller's window of 500 begins   [6…] payloads
-- returns a character a job: 1 it is there, 0 not any more; "" when the list is not that long; -1: the turn is somebody
--     else's by now
--
-- Why a script: the job could move on between the look and its lock. Whoever has taken the key meanwhile keeps it. At most 500.
--
-- include: epoch locks wake held take flusher restore
redis.call("DEL", K.never)
if not has_turn(ARGV[2], ARGV[3]) then return -1 end
local wrong = misfit(KEYS[1], ARGV[4])
if wrong then return wrong end
if ARGV[5] ~= "" and redis.call("LLEN", KEYS[1]) <= tonumber(ARGV[5]) then return "" end
local E, asked, there, here, raws, scores = open_epoch(ARGV[1]), {}, {}, {}, {}, ARGV[5] == "" and {} or nil
if not scores then
  for _, raw in ipairs(redis.call("LRANGE", KEYS[1], ARGV[5], ARGV[5] + 499)) do here[raw] = true end
end
for i = 6, #ARGV do
  local n, score = i - 5, scores and redis.call("ZSCORE", KEYS[1], ARGV[i])
  asked[n], there[n] = ARGV[i], score or here[ARGV[i]]
  if there[n] then raws[#raws + 1] = ARGV[i] end
  if score then scores[#raws] = score end
end
relock(E, KEYS[1], raws, scores)
return told_of(asked, there)
