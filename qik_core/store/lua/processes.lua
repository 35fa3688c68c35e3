-- processes: what processes say of themselves, and what their threads run.
--
-- KEYS    none
-- ARGV[1] cursor, 0 to begin   [2] 1: also what they run   [3] 1: forget those that said nothing for 60 s
-- returns next cursor (0: all were read), forgotten, then per process: identity, values of its heartbeat, its work
--
-- Why a script: one round trip for hundreds of processes; and who is forgotten must still be silent at that moment.
--
-- include:
redis.call("DEL", K.never)
local page = redis.call("SSCAN", K.processes, ARGV[1], "COUNT", 100)
local reply = {page[1], 0}
for _, identity in ipairs(page[2]) do
  local beat = redis.pcall("HMGET", identity, "info", "concurrency", "busy", "beat", "quiet", "rss", "rtt_us")
  if beat[1] then
    local work = ARGV[2] == "1" and redis.pcall("HGETALL", identity .. ":work") or {}
    if ARGV[2] == "1" and #work == 0 then work = redis.pcall("HGETALL", identity .. ":workers") end
    for i = 1, 7 do beat[i] = beat[i] or "" end
    for _, each in ipairs({identity, beat, work.err and {} or work}) do reply[#reply + 1] = each end
  elseif ARGV[3] == "1" then
    reply[2] = reply[2] + redis.call("SREM", K.processes, identity)
  end
end
return reply
