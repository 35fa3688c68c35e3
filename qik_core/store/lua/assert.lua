-- assert: say that the jobs of a process are held, and renew their locks.
--
-- KEYS[1] qik:working:<identity> hash
-- ARGV[1] candidate epoch   [2] holder   [3] 3 L, seconds   [4] "" for a beat; else the new value of #, after a loss
--     [5] with the last chunk: the generation in which the fields were named, * the present one; it is beaten in then
--     [6…] triples: field, s when its outcome is under way (else -), payload to restore or ""
-- returns ok | fenced, epoch, time, then the fields that another holder has superseded
--
-- Why a script: after a loss, the working hash and the locks must come back together, before anybody else can take
-- one; and a fenced process must not come back at all. At most 500 jobs a call.
--
-- include: epoch locks
redis.call("DEL", K.never)
local E, working, holder, lease = open_epoch(ARGV[1]), KEYS[1], ARGV[2], tonumber(ARGV[3])
local mark = redis.call("HGET", working, "#") or ""
-- What it held is on its way to others, also where somebody has deleted the mark of that.
local recovering = redis.call("EXISTS", K.recovering .. working:sub(#K.working + 1)) == 1
if mark == "fenced" or recovering then return {"fenced", E.text, STAMP} end
if ARGV[4] ~= "" then
  -- Delivered too late: exchanges have been applied since, and what they settled must not come back.
  if (tonumber(mark:match("^%d+")) or -1) > tonumber(ARGV[4]:match("^%d+")) then return {"ok", E.text, STAMP} end
  redis.call("HSET", working, "#", ARGV[4])
end
local jobs, fields = {}, {"#"}
for i = 6, #ARGV, 3 do
  local raw = ARGV[i + 2] ~= "" and ARGV[i + 2] or redis.call("HGET", working, ARGV[i])
  local unique, jid = (raw or ""):match(HEADER)
  local digest, until_, seconds = lock_of(unique or "")
  if ARGV[i + 2] ~= "" then redis.call("HSET", working, ARGV[i], raw) end
  if digest and until_ == "S" then
    fields[#fields + 1] = digest
    jobs[#jobs + 1] = {ARGV[i], jid, digest, seconds, ARGV[i + 1] == "s"}
  end
end
local found, set, reply = read_locks(E, fields), {}, {"ok", E.text, STAMP}
for i, job in ipairs(jobs) do
  local field, jid, digest, seconds, settling = unpack(job)
  local rec = found[i + 1]
  local mine = rec and is_mine(rec, jid, holder)
  if mine or not (settling or (rec and rec:sub(1, 1) == "r")) then
    local renewed = running(rec, seconds, lease, jid, holder)
    if rec and (not mine or rec:sub(2, 2) == "1") then renewed = "r1" .. renewed:sub(3) end
    set[#set + 1] = digest
    set[#set + 1] = renewed
  elseif not settling then
    reply[#reply + 1] = field
  end
end
write_locks(E, set, {})
-- What was fetched between the naming and a roll's beginning has its lock in the generation before; and a process
-- without # holds jobs that Redis does not know of.
if ARGV[5] ~= "" and (mark ~= "" or ARGV[4] ~= "") then
  redis.call("HSET", working, "@", ARGV[5] == "*" and E.gen or ARGV[5])
end
return reply
