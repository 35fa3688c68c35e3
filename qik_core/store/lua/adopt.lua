-- adopt: take the locks of unique jobs that were fetched without them, as Ruby pushes or promotes them.
--
-- KEYS[1] qik:working:<identity> hash
-- ARGV[1] candidate epoch   [2] holder   [3] 3 L, seconds   [4…] pairs: field, the payload with our header
-- returns ok | fenced, epoch, time, then the fields of jobs whose key another holds: they are gone, and must not run
--
-- Why a script: the look at the lock and its taking must be one step; sent twice, it changes nothing. At most 500 jobs.
--
-- include: epoch locks
redis.call("DEL", K.never)
local E, working, holder = open_epoch(ARGV[1]), KEYS[1], ARGV[2]
if redis.call("HGET", working, "#") == "fenced" then return {"fenced", E.text, STAMP} end
local fields, jobs = {"#"}, {}
for i = 4, #ARGV, 2 do
  local unique, jid = ARGV[i + 1]:match(HEADER)
  local digest, until_, seconds = lock_of(unique)
  if redis.call("HEXISTS", working, ARGV[i]) == 1 then
    fields[#fields + 1] = digest
    jobs[#jobs + 1] = {ARGV[i], ARGV[i + 1], jid, digest, until_, seconds}
  end
end
local found, taken, set, gone, reply = read_locks(E, fields), {}, {}, {}, {"ok", E.text, STAMP}
for i, job in ipairs(jobs) do
  local field, raw, jid, digest, until_, seconds = unpack(job)
  local rec = taken[digest] or found[i + 1]
  if rec and not is_mine(rec, jid, holder) and held_elsewhere(rec, jid) then
    redis.call("HDEL", working, field)
    reply[#reply + 1] = field
  else
    redis.call("HSET", working, field, raw)
    taken[digest] = running(rec, seconds, tonumber(ARGV[3]), jid, holder)
    if until_ == "T" then gone[#gone + 1] = digest else
      set[#set + 1] = digest
      set[#set + 1] = taken[digest]
    end
  end
end
write_locks(E, set, gone)
if #reply > 3 then redis.call("HINCRBY", K.counts, "superseded", #reply - 3) end
return reply
