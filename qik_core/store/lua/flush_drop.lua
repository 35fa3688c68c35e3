-- flush_drop: jobs that a flush removes where they are, with their locks.
--
-- KEYS[1] schedule | retry | dead | qik:later:<queue> zset, qik:held:<class> list   [2] qik:flushed:<export> set, or none
-- ARGV[1] candidate epoch   [2] whose turn it is   [3] for how many ms more   [4] list | zset: what KEYS[1] must be
--     [5] list: index where the caller's window of 500 begins   [6] 1: these belong to the step before
--     [7] the generation in which all jobs of KEYS[1] have their locks, or ""   [8…] triples: digest or "", jid, payload
-- returns a character a job: 1 removed, 0 not there any more; "" when the list is not that long; -1: the turn is somebody
--     else's by now; -2: a roll is under way
--
-- Why a script: who removes the bytes owns the job, and frees its lock. A walk that KEYS[1] shrinks under would pass over
-- jobs, and their locks would be gone with it: so they all have them in its generation first. At most 250 jobs.
--
-- include: epoch locks held take flusher
redis.call("DEL", K.never)
if not has_turn(ARGV[2], ARGV[3]) then return -1 end
local wrong = misfit(KEYS[1], ARGV[4]) or KEYS[2] and misfit(KEYS[2], "set")
if wrong then return wrong end
if ARGV[5] ~= "" and redis.call("LLEN", KEYS[1]) <= tonumber(ARGV[5]) then return "" end
local E, digests, jids, raws = open_epoch(ARGV[1]), {}, {}, {}
if E.prev ~= "-" and KEYS[1] ~= K.dead and E.gen ~= ARGV[7] then return -2 end
for i = 8, #ARGV, 3 do
  digests[#digests + 1] = ARGV[i]
  jids[#jids + 1] = ARGV[i + 1]
  raws[#raws + 1] = ARGV[i + 2]
end
local taken = take(KEYS[1], raws, ARGV[5])
free(E, taken, digests, jids)
note_removed(KEYS[2], jids, taken, ARGV[6] == "1")
return told_of(raws, taken)
