-- push: put up to 500 jobs of one class on one queue, or into one sorted set, under their locks.
--
-- KEYS[1] qik:sent:<jid> string   [2] qik:later:<queue> or schedule zset, for jobs with a time
-- ARGV[1] candidate epoch   [2] e edge | p pass, and d where no two digests are the same   [3] queue   [4] how many   [5] unique_for, 0 without locks
--     [6] digests, 22 characters each   [7] jids, all of one length   [8] versions, 6 each, or nothing
--     [9] times: nothing for now, or d (delays) or a (absolute) and numbers with spaces between
--     [10] 1 when times on the wire are milliseconds   [11] the class, if it is switched off and these are to be held, or
--     nothing   [12…] payloads
-- returns codes (a character a job; h: not even held, since too many are), epoch, time, the jid that stands for the last job's key
--
-- Why a script: the lock and the job must appear together. Its first write is one that a full Redis refuses, so that
-- push alone fails then. A call sent twice within 30 s finds its codes and changes nothing.
--
-- include: epoch locks wake held claim place
local E = open_epoch(ARGV[1])
local known = redis.call("GET", KEYS[1])
if known then
  local codes, jid = known:match("^(%a+) (%S*)$")
  return {codes, E.text, STAMP, jid}
end
local n, seconds = tonumber(ARGV[4]), tonumber(ARGV[5])
local stride, later, times, soonest = #ARGV[7] / n, ARGV[9]:sub(1, 1) == "d" and NOW or 0, {}, math.huge
for time in ARGV[9]:sub(2):gmatch("%S+") do
  local at = time + later
  times[#times + 1], soonest = at, at < soonest and at or soonest
end
local fields, found = fields_of(ARGV[6]), {}
if seconds > 0 then found = read_locks(E, fields) end
local P = {queue = ARGV[3], zset = KEYS[2], where = KEYS[2] ~= K.schedule and "@" .. ARGV[3] or "", milliseconds = ARGV[10],
  seconds = seconds, held = ARGV[11] ~= "" and ARGV[11], refused = 0, jid = "", codes = {}, list = {}, timed = {}, locks = {},
  locked = 0, moves = {}, seen = {}}
local jids, versions, pass = ARGV[7], ARGV[8] ~= "" and ARGV[8], ARGV[2]:byte() == 112 -- p
local clear = ARGV[2]:byte(2) == 100 and not P.held and none_of(found, n)
if clear and #times == 0 then put_all(P, fields, jids, stride, versions, n)
elseif clear and soonest > NOW then put_all_later(P, fields, jids, stride, versions, n, times)
else
  for i = 1, n do
    local digest, rec, raw = fields[i + 1], found[i + 1], ARGV[11 + i]
    local jid, version = jids:sub((i - 1) * stride + 1, i * stride), versions and versions:sub(i * 6 - 5, i * 6) or "------"
    if rec or P.held or P.seen[digest or ""] then
      place(P, i, digest, rec, {jid = jid, version = version, at = times[i], raw = raw, pass = pass})
    else
      put(P, i, digest, jid, version, times[i], raw)
    end
  end
end
local codes = table.concat(P.codes)
redis.call("SET", KEYS[1], codes .. " " .. P.jid, "PX", 30000)
write_locks(E, P.locks, {})
deliver(P)
return {codes, E.text, STAMP, P.jid}
