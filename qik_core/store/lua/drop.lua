-- drop: jobs that wait, or are dead, are deleted, and their locks with them.
--
-- KEYS[1] list or zset in which they are
-- ARGV[1] candidate epoch   [2] list: index where the caller's window of 500 begins, or ""
--     [3] list | zset: what the key must be   [4…] triples: digest or "", jid, payload
-- returns a character a job: 1 deleted, 0 not there any more
--
-- Why a script: a worker may take the same job at the same moment. Who removes the bytes owns it, and frees its lock; a
-- lock that outlives its job would refuse every later push of the key. At most 500 jobs.
--
-- include: epoch locks held take
redis.call("DEL", K.never)
local wrong = misfit(KEYS[1], ARGV[3])
if wrong then return wrong end
local E, digests, jids, raws = open_epoch(ARGV[1]), {}, {}, {}
for i = 4, #ARGV, 3 do
  digests[#digests + 1] = ARGV[i]
  jids[#jids + 1] = ARGV[i + 1]
  raws[#raws + 1] = ARGV[i + 2]
end
local taken = take(KEYS[1], raws, ARGV[2])
free(E, taken, digests, jids)
return told_of(raws, taken)
