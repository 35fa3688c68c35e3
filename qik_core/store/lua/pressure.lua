-- pressure: how much waits for one queue, for how long, and how full the server is.
--
-- KEYS[1] queue:<name> list   [2] qik:later:<name> zset
-- ARGV    none
-- returns time, jobs on the queue, jobs of passes that wait for their time, enqueued_at of the oldest job on the queue or
--     = and that job, whole; bytes in use, bytes allowed: 0 without a limit, or where this user may not ask
--
-- Why a script: one round trip before each page of a pass, and numbers of one moment.
--
-- include: epoch
redis.call("DEL", K.never)
local queued, later = redis.call("LLEN", KEYS[1]), redis.call("ZCARD", KEYS[2])
local oldest = queued > 0 and redis.call("LINDEX", KEYS[1], -1) or ""
local info = redis.pcall("INFO", "memory")
local function bytes(name)
  return type(info) == "string" and info:match("\n" .. name .. ":(%d+)") or "0"
end
return {STAMP, queued, later, oldest:match('"enqueued_at":(%d+%.?%d*)}$') or "=" .. oldest, bytes("used_memory"), bytes("maxmemory")}
