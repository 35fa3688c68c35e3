-- flush_sort: of a list that was put aside, the jobs at its push end: what must live goes back, the rest is removed.
--
-- KEYS[1] qik:trash:<flush>:<list>   [2] that list, as it was called   [3] qik:flushed:<export> set, or none
-- ARGV[1] candidate epoch   [2] whose turn it is   [3] for how many ms more   [4] how long KEYS[1] is, as the caller read it
--     [5] a character a job, from the push end: b goes back, x is removed
-- returns how many are left; -1: the turn is somebody else's by now; -2: these were sorted already
--
-- Why a script: a job is at one place at every moment, and its lock goes or stays with it. Nobody else changes a list that
-- is aside, so its length says whether this call was carried out before. At most 500 jobs.
--
-- include: epoch locks wake held take flusher restore
redis.call("DEL", K.never)
if not has_turn(ARGV[2], ARGV[3]) then return -1 end
local wrong = misfit(KEYS[1], "list", KEYS[2], "list") or KEYS[3] and misfit(KEYS[3], "set")
if wrong then return wrong end
if redis.call("LLEN", KEYS[1]) ~= tonumber(ARGV[4]) then return -2 end
local E, gone, digests, jids, back = open_epoch(ARGV[1]), {}, {}, {}, {}
for i, raw in ipairs(redis.call("LRANGE", KEYS[1], 0, #ARGV[5] - 1)) do
  local unique, jid = raw:match(HEADER)
  digests[i], jids[i], gone[i] = lock_of(unique or "") or "", jid or "", ARGV[5]:sub(i, i) == "x"
  if not gone[i] then back[#back + 1] = raw end
end
free(E, gone, digests, jids)
note_removed(KEYS[3], jids, gone, false)
relock(E, KEYS[2], back)
put_back(KEYS[2], back)
redis.call("LTRIM", KEYS[1], #digests, -1)
local left = redis.call("LLEN", KEYS[1])
if left == 0 then redis.call("SREM", K.aside, KEYS[1]) end
return left
