-- The two halves of a push: place decides where one job goes, deliver writes what was decided.
-- P = {queue, zset, milliseconds, …}: where this push goes, and what it has gathered so far.
local function lock(P, digest, rec)
  local n = P.locked
  P.locks[n + 1], P.locks[n + 2], P.seen[digest], P.locked = digest, rec, rec, n + 2
end

-- Nothing stands in the way of this job: it goes where its time says, and its lock, if it has one, knows where.
local function put(P, i, digest, jid, version, at, raw)
  P.codes[i], P.jid = "e", jid
  if at and at > NOW then
    local score = string.format("%.6f", at)
    P.timed[#P.timed + 1] = score
    P.timed[#P.timed + 1] = raw
    if digest then lock(P, digest, record("s", "0", version, at + P.seconds, jid .. "|" .. score .. P.where)) end
    return
  end
  P.list[#P.list + 1] = at and stamped(raw, P.milliseconds) or raw
  if digest then lock(P, digest, record("q", "0", version, NOW + P.seconds, jid)) end
end

local function none_of(found, n)
  for i = 2, n + 1 do
    if found[i] then return false end
  end
  return true
end

-- Nothing stands in the way of any of these: as `put` for each, at two thirds of the cost.
local function put_all(P, fields, jids, stride, versions, n)
  local locks, sub, expiry = P.locks, string.sub, expiry_text(NOW + P.seconds)
  for i = 1, P.seconds > 0 and n or 0 do
    local version = versions and sub(versions, i * 6 - 5, i * 6) or "------"
    locks[i * 2 - 1] = fields[i + 1]
    locks[i * 2] = "q0" .. version .. expiry .. sub(jids, (i - 1) * stride + 1, i * stride)
  end
  P.codes[1], P.jid, P.list = string.rep("e", n), sub(jids, -stride), {unpack(ARGV, 12, 11 + n)}
end

-- The same for jobs that all have a time which has not come.
local function put_all_later(P, fields, jids, stride, versions, n, times)
  local locks, timed, sub, format, seconds, where = P.locks, P.timed, string.sub, string.format, P.seconds, P.where
  for i = 1, n do
    local at, j = times[i], i * 2
    local score = format("%.6f", at)
    timed[j - 1], timed[j] = score, ARGV[11 + i]
    if seconds > 0 then
      local version = versions and sub(versions, i * 6 - 5, i * 6) or "------"
      local expiry, jid = expiry_text(at + seconds), sub(jids, (i - 1) * stride + 1, i * stride)
      locks[j - 1], locks[j] = fields[i + 1], "s0" .. version .. expiry .. jid .. "|" .. score .. where
    end
  end
  P.codes[1], P.jid = string.rep("e", n), sub(jids, -stride)
end

-- Of a class that is switched off, and pushed to be held: is there no room for this one?
local function is_full(P, job)
  if not P.held or (job.at and job.at > NOW) then return false end
  if not P.left then P.left, P.bytes = room(P.held) end
  if P.left < 1 or P.bytes < #job.raw then
    P.refused = P.refused + 1
    return true
  end
  P.left, P.bytes = P.left - 1, P.bytes - #job.raw
  return false
end

local function advance(P, digest, rec)
  local copy = scheduled_copy(digest, rec)
  if not copy then return "s" end
  P.moves[#P.moves + 1] = copy
  return "a", record("q", "0", rec:sub(3, 8), NOW + P.seconds, copy[4])
end

-- One job of which a copy may be here already, or which is to be held. job = {jid, version, at, raw, pass}
local function place(P, i, digest, rec, job)
  local code, changed, expired
  rec = digest and (P.seen[digest] or rec)
  if rec then code, changed, expired = meet(rec, job) end
  if expired then P.roll = true end
  if code == "a" then code, changed = advance(P, digest, rec) end
  if not code and is_full(P, job) then code, rec = "h", nil end
  if not code then return put(P, i, digest, job.jid, job.version, job.at, job.raw) end
  P.codes[i], P.jid = code, rec and rec:sub(19):match("^[^|]+") or job.jid
  if changed then lock(P, digest, changed) end
end

local function deliver_held(P)
  if #P.list > 0 then
    redis.call("LPUSH", K.held .. P.held .. "+", unpack(P.list))
    weigh(P.held, P.list, 1)
  end
  if P.refused > 0 then redis.call("HINCRBY", K.counts, "held_full", P.refused) end
end

local function deliver(P)
  if P.held then deliver_held(P)
  elseif #P.list > 0 then
    redis.call("LPUSH", K.queue .. P.queue, unpack(P.list))
    redis.call("INCRBY", K.n .. K.queue .. P.queue, #P.list)
    wake(P.queue, #P.list)
  end
  if #P.timed > 0 then
    redis.call("ZADD", P.zset, unpack(P.timed))
    redis.call("INCRBY", K.n .. P.zset, #P.timed / 2)
  end
  for _, move in ipairs(P.moves) do -- zset, payload, queue
    redis.call("ZREM", move[1], move[2])
    redis.call("DECRBY", K.n .. move[1], 1)
    redis.call("LPUSH", K.queue .. move[3], stamped(move[2], P.milliseconds))
    redis.call("INCRBY", K.n .. K.queue .. move[3], 1)
    wake(move[3], 1)
  end
  redis.call("SADD", K.queues, P.queue)
  if P.roll then redis.call("SET", K.roll, "1", "EX", 300) end
end
