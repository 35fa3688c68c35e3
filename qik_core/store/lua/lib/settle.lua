-- What becomes of the jobs that a process has finished. W = {working, holder, retry cap …}: see exchange.lua.
local function requeue(W, raw, queue)
  redis.call("RPUSH", K.queue .. queue, raw)
  redis.call("INCRBY", K.n .. K.queue .. queue, 1)
  wake(queue, 1)
end

-- ended well, without a lock: fields · with one: field, digest, jid, seconds, a payload to run again or ""
local function settle_done(E, W, plain, locked)
  if #plain > 0 then redis.call("HDEL", W.working, unpack(plain)) end
  if #locked == 0 then return end
  local fields, gone, set, done = {"#"}, {}, {}, {}
  for i = 2, #locked, 5 do fields[#fields + 1] = locked[i] end
  local found = read_locks(E, fields)
  for i = 1, #locked, 5 do
    local field, digest, jid, rec = locked[i], locked[i + 1], locked[i + 2], found[(i + 4) / 5 + 1]
    done[#done + 1] = field
    if rec and is_mine(rec, jid, W.holder) then
      local raw = rec:sub(2, 2) == "1" and redis.call("HGET", W.working, field)
      local _, _, queue = (raw or ""):match(HEADER)
      if queue then
        requeue(W, locked[i + 4] ~= "" and locked[i + 4] or raw, queue)
        set[#set + 1] = digest
        set[#set + 1] = record("q", "0", rec:sub(3, 8), NOW + locked[i + 3], jid)
      else
        gone[#gone + 1] = digest
      end
    elseif rec then
      W.superseded = W.superseded + 1
    end
  end
  redis.call("HDEL", W.working, unpack(done))
  write_locks(E, set, gone)
end

local function bury(W, raw)
  redis.call("ZADD", K.dead, STAMP, raw)
  redis.call("ZREMRANGEBYSCORE", K.dead, "-inf", string.format("(%.6f", NOW - W.dead_seconds))
  redis.call("ZREMRANGEBYRANK", K.dead, 0, -W.dead_max - 1)
end

-- one job that did not end well: {kind, field, unique, jid, queue, delay, payload, payload to run again}
-- kind: t retry after delay seconds · d dead · b back on its queue · x gone (discarded)
local function settle_other(E, W, o)
  local kind, field, jid = o[1], o[2], o[4]
  if redis.call("HDEL", W.working, field) == 0 then return end
  local digest, until_, seconds = lock_of(o[3])
  if until_ == "T" then digest = nil end
  local rec = digest and read_locks(E, {"#", digest})[2]
  if rec and not is_mine(rec, jid, W.holder) then
    W.superseded = W.superseded + 1
    return
  end
  local version, at = rec and rec:sub(3, 8) or "------", string.format("%.6f", NOW + o[6])
  if rec and rec:sub(2, 2) == "1" and (kind == "d" or kind == "x") then kind, o[7] = "b", o[8] end
  if kind == "t" then
    redis.call("ZADD", K.retry, at, o[7])
    redis.call("INCRBY", K.n .. K.retry, 1)
    if digest then write_locks(E, {digest, record("t", "0", version, NOW + o[6] + seconds, jid .. "|" .. at)}, {}) end
    return
  end
  if kind == "b" then requeue(W, o[7], o[5]) end
  if kind == "d" then bury(W, o[7]) end
  if not digest then return end
  if kind == "b" then write_locks(E, {digest, record("q", "0", version, NOW + seconds, jid)}, {})
  elseif rec then write_locks(E, {}, {digest}) end
end
