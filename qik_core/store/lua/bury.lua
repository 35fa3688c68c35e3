-- bury: jobs that wait become dead, as they are, and their locks are free.
--
-- KEYS[1] list or zset in which they are
-- ARGV[1] candidate epoch   [2] list: index where the caller's window of 500 begins, or ""
--     [3] list | zset: what the key must be   [4] dead_max   [5] seconds that the dead are kept
--     [6…] fours: digest or "", jid, payload, note for its end or ""
-- returns a character a job: 1 dead now, 0 not there any more
--
-- Why a script: between leaving one place and reaching the other a job must not be nowhere. At most 500 jobs.
--
-- include: epoch locks wake ended held settle take
redis.call("DEL", K.never)
local wrong = misfit(KEYS[1], ARGV[3], K.dead, "zset")
if wrong then return wrong end
local E, digests, jids, raws = open_epoch(ARGV[1]), {}, {}, {}
local notes = {}
for i = 6, #ARGV, 4 do
  digests[#digests + 1] = ARGV[i]
  jids[#jids + 1] = ARGV[i + 1]
  raws[#raws + 1] = ARGV[i + 2]
  notes[#notes + 1] = ARGV[i + 3]
end
local taken, any = take(KEYS[1], raws, ARGV[2]), false
for i, raw in ipairs(raws) do
  if taken[i] then
    redis.call("ZADD", K.dead, STAMP, raw)
    any = true
    if notes[i] ~= "" then -- of jobs with a lock only
      local rec = read_locks(E, {"#", digests[i]})[2]
      tell_ended(notes[i], rec and waits(rec, jids[i]) and rec:sub(3, 8) or "------")
    end
  end
end
free(E, taken, digests, jids)
if any then trim_dead({dead_max = tonumber(ARGV[4]), dead_seconds = tonumber(ARGV[5])}) end
return told_of(raws, taken)
