-- giveback: jobs of a working hash return to their queues, next to be fetched, and their locks with them; or to
-- the suspects, when a process died under them.
--
-- KEYS[1] qik:working:<identity> or qik:recovering:<identity> hash
-- ARGV[1] candidate epoch   [2] holder   [3] 1: remove the hash when no job is left in it
--     [4…] fours: where (q queue, s suspects), field, queue, payload to put there instead or ""
-- returns ok | fenced | lost (no such process: assert first), epoch, time, given back, superseded
--
-- Why a script: a job is in exactly one place at every moment, and a second call finds nothing to do. At most 500 jobs.
--
-- include: epoch locks wake home
redis.call("DEL", K.never)
local E, hash, holder, given, superseded = open_epoch(ARGV[1]), KEYS[1], ARGV[2], 0, 0
local dead = hash:sub(1, #K.recovering) == K.recovering and hash:sub(#K.recovering + 1)
local mark = redis.call("HGET", hash, "#")
if mark == "fenced" then return {"fenced", E.text, STAMP, 0, 0} end
if not mark and ARGV[3] == "0" then return {"lost", E.text, STAMP, 0, 0} end
for i = 4, #ARGV, 4 do
  local where, field, queue = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local raw = redis.call("HGET", hash, field)
  if raw then
    local unique, jid = raw:match(HEADER)
    local digest, until_, seconds = lock_of(unique or "")
    local rec = digest and until_ == "S" and read_locks(E, {"#", digest})[2]
    redis.call("HDEL", hash, field)
    if rec and not is_mine(rec, jid, holder) then
      superseded = superseded + 1
    else
      if dead then redis.call("SREM", K.idle .. queue, dead) end -- what comes back must wake somebody who lives
      send_home(where, queue, ARGV[i + 3] ~= "" and ARGV[i + 3] or raw, unique)
      if digest and until_ == "S" then
        write_locks(E, {digest, record("q", "0", rec and rec:sub(3, 8) or "------", NOW + seconds, jid)}, {})
      end
      given = given + 1
    end
  end
end
if superseded > 0 then redis.call("HINCRBY", K.counts, "superseded", superseded) end
local left = redis.call("HLEN", hash) - redis.call("HEXISTS", hash, "#") - redis.call("HEXISTS", hash, "@")
if ARGV[3] == "1" and left <= 0 then redis.call("DEL", hash) end
return {"ok", E.text, STAMP, given, superseded}
