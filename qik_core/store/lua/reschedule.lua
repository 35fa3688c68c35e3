-- reschedule: jobs of a sorted set become due at another time, and their windows with them.
--
-- KEYS[1] schedule | retry | qik:later:<queue> zset
-- ARGV[1] candidate epoch   [2] when, epoch seconds   [3…] fours: digest or "", unique_for, jid, payload
-- returns a character a job: 1 moved, 0 not there any more
--
-- Why a script: the lock names the score, by which an edge finds the job that it brings forward; both change together,
-- and a job that has just been promoted must not be put back. At most 500 jobs.
--
-- include: epoch locks held take
redis.call("DEL", K.never)
local wrong = misfit(KEYS[1], "zset")
if wrong then return wrong end
local E, at, raws, taken = open_epoch(ARGV[1]), tonumber(ARGV[2]), {}, {}
local score = string.format("%.6f", at)
for i = 3, #ARGV, 4 do
  local digest, seconds, jid, raw = unpack(ARGV, i, i + 3)
  raws[#raws + 1] = raw
  if redis.call("ZSCORE", KEYS[1], raw) then
    taken[#raws] = true
    redis.call("ZADD", KEYS[1], "XX", score, raw)
    local rec = digest ~= "" and read_locks(E, {"#", digest})[2]
    if waits(rec, jid) and rec:sub(1, 1) ~= "q" then
      local tail = jid .. "|" .. score .. (rec:match("@.*$") or "")
      write_locks(E, {digest, record(rec:sub(1, 1), "0", rec:sub(3, 8), math.max(at, NOW) + seconds, tail)}, {})
    end
  end
end
return told_of(raws, taken)
