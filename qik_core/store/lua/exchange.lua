-- exchange: settle finished jobs and fetch the next ones, in one numbered round trip.
--
-- KEYS[1] qik:working:<identity> hash
-- ARGV[1] candidate epoch   [2] sequence   [3] identity   [4] holder   [5] how many to fetch
--     [6] ms after the epoch's birth in which nothing is handed out   [7] 3 L: least life of a running lock, seconds
--     [8] dead_max   [9] seconds that the dead are kept   [10] UTC day   [11] queues, spaces between; ! first: their suspects
--     [12…15] how many ended well without a lock, with one, how many did not, failures among them
--     [16…] the outcomes themselves: 1, 3 and 10 values each, see lib/settle.lua; then field, payload to run again
-- returns status (done | again | idle | lost | fenced), epoch, time, superseded, "queue count queue count …", payloads
--
-- Why a script: the number tells a re-send from a new exchange, so a lost reply neither settles twice nor strands what
-- was fetched; and every job moves in the same step as its lock. DEL first: what follows may then write to a full Redis.
--
-- include: epoch locks wake ended held settle fetch exchange
redis.call("DEL", K.never)
local E, working, seq = open_epoch(ARGV[1]), KEYS[1], tonumber(ARGV[2])
local mark = redis.call("HGET", working, "#")
if mark == "fenced" then return {"fenced", E.text, STAMP, 0, ""} end
local last, count = (mark or ""):match("^(%d+):(%d+)$")
last = tonumber(last)
if last == nil or (last ~= seq and last + 1 ~= seq) then return {"lost", E.text, STAMP, 0, ""} end
if last == seq then return same_again(E, working, seq, tonumber(count)) end
local W = {working = working, holder = ARGV[4], lease = tonumber(ARGV[7]), superseded = 0,
  dead_max = tonumber(ARGV[8]), dead_seconds = tonumber(ARGV[9]), alone = ARGV[11]:sub(1, 1) == "!"}
local plain, locked, others, at = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14]), 16
if plain > 0 then redis.call("HDEL", working, unpack(ARGV, at, at + plain - 1)) end
at = at + plain
local again, first = {}, at + locked * 3 + others * 10
for i = first, #ARGV, 2 do again[ARGV[i]] = ARGV[i + 1] end
if locked > 0 then settle_locked(E, W, at, locked, again) end
at = at + locked * 3
for i = 0, others - 1 do settle_other(E, W, {unpack(ARGV, at + i * 10, at + i * 10 + 9)}) end
local settled = plain + locked + others
count_runs(ARGV[10], settled, tonumber(ARGV[15]))
local queues, want, jobs, runs, popped = {}, tonumber(ARGV[5]), {}, "", 0
for name in ARGV[11]:gmatch("[%w_.:-]+") do queues[#queues + 1] = name end
if want > 0 then read_locks(E, {"#"}) end -- this exchange may be the first to find that they are gone
local age = NOW * 1000 - E.birth
if want > 0 and #queues > 0 and not (age >= 0 and age < tonumber(ARGV[6])) then
  jobs, runs, popped = fetch(E, W, queues, want, ARGV[2] .. ".")
  if popped < want and not W.alone then sleep_on(queues, ARGV[3]) end
end
if settled == 0 and popped == 0 then return {"idle", E.text, STAMP, 0, ""} end
if W.superseded > 0 then redis.call("HINCRBY", K.counts, "superseded", W.superseded) end
redis.call("HSET", working, "#", ARGV[2] .. ":" .. #jobs)
return {"done", E.text, STAMP, W.superseded, runs, unpack(jobs)}
