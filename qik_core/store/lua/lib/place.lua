-- The two halves of a push: place decides where one job goes, deliver writes what was decided.
-- P = {queue, zset, milliseconds, …}: where this push goes, and what it has gathered so far.
local function tail(P, at)
  if not at then return "" end
  return "|" .. string.format("%.6f", at) .. (P.zset ~= K.schedule and "@" .. P.queue or "")
end

local function put(P, job)
  if job.at and job.at <= NOW then job.raw, job.at = stamped(job.raw, P.milliseconds), nil end
  if job.at then
    P.timed[#P.timed + 1] = string.format("%.6f", job.at)
    P.timed[#P.timed + 1] = job.raw
  else
    P.list[#P.list + 1] = job.raw
  end
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

local function advance(P, digest, rec, seconds)
  local copy = scheduled_copy(digest, rec)
  if not copy then return "s" end
  P.moves[#P.moves + 1] = copy
  return "a", record("q", "0", rec:sub(3, 8), NOW + seconds, copy[4])
end

local function place(P, i, digest, rec, job)
  local code, changed, expired
  rec = digest and (P.seen[digest] or rec)
  if rec then code, changed, expired = meet(rec, job) end
  if expired then P.roll = true end
  if code == "a" then code, changed = advance(P, digest, rec, job.seconds) end
  if not code and is_full(P, job) then code, rec, changed = "h", nil, nil end
  if not code then
    code, rec = "e", nil
    put(P, job)
    if digest then
      local due = job.at or NOW
      changed = record(job.at and "s" or "q", "0", job.version, due + job.seconds, job.jid .. tail(P, job.at))
    end
  end
  P.codes[i] = code
  P.jid = rec and rec:sub(19):match("^[^|]+") or job.jid
  if changed then
    P.seen[digest] = changed
    P.locks[#P.locks + 1] = digest
    P.locks[#P.locks + 1] = changed
  end
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
