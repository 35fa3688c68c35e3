-- stats: how much of everything there is, in one look.
--
-- KEYS    none
-- ARGV[1] cursor into the names of queues, 0 to begin, - when all were read   [2] the same for processes
-- returns time, processed, failed, scheduled, retries, dead, processes, next cursors of queues and processes, busy, then
--     per queue: name, size, 1 when paused, enqueued_at of the oldest job or = and that job, whole
--     a size of -1: the key holds another type of value
--
-- Why a script: a page of numbers that belong together costs one round trip. At most about 500 names a call.
--
-- include: epoch
redis.call("DEL", K.never)
local function size(command, key)
  local answer = redis.pcall(command, key)
  return type(answer) == "number" and answer or -1
end

local function part(key, cursor)
  if cursor == "-" then return "-", {} end
  local reply = redis.pcall("SSCAN", key, cursor, "COUNT", 500)
  if reply.err then return "-", {} end
  return reply[1] == "0" and "-" or reply[1], reply[2]
end

local busy, queues, names, processes, identities = 0, ARGV[1], nil, ARGV[2], nil
queues, names = part(K.queues, queues)
processes, identities = part(K.processes, processes)
for _, identity in ipairs(identities) do busy = busy + (tonumber(redis.pcall("HGET", identity, "busy")) or 0) end
local reply = {STAMP, redis.call("GET", K.stat .. "processed") or "0", redis.call("GET", K.stat .. "failed") or "0",
  size("ZCARD", K.schedule), size("ZCARD", K.retry), size("ZCARD", K.dead), size("SCARD", K.processes),
  queues, processes, busy}
for _, name in ipairs(names) do
  local length = size("LLEN", K.queue .. name)
  local oldest = length > 0 and redis.call("LINDEX", K.queue .. name, -1) or ""
  reply[#reply + 1] = name
  reply[#reply + 1] = length
  reply[#reply + 1] = redis.call("SISMEMBER", K.paused, name)
  reply[#reply + 1] = oldest:match('"enqueued_at":(%d+%.?%d*)}$') or "=" .. oldest
end
return reply
