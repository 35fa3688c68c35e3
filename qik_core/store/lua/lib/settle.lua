-- What becomes of the jobs that a process has finished. W = {working, holder, lease, dead_max, dead_seconds, superseded}.
local function came_back(queue, raw)
  if raw:sub(1, 8) == '{"qik":"' then redis.call("INCRBY", K.n .. K.queue .. queue, 1) end
  redis.call("SADD", K.queues, queue)
  wake(queue, 1)
end

-- Ended well, under a lock. ARGV from `at`: n times field, digest, what the record ends with if the lock is ours
-- (<jid>|<holder>); then pairs of field and payload for those that must not run again as they are.
local function settle_locked(E, W, at, n, again)
  local fields, gone, set, done, freed = {"#"}, {}, {}, {}, 0
  for i = 1, n do done[i], fields[i + 1] = ARGV[at + i * 3 - 3], ARGV[at + i * 3 - 2] end
  local found = read_locks(E, fields)
  for i = 1, n do
    local rec = found[i + 1]
    if rec and rec:byte(1) == 114 and rec:sub(19) == ARGV[at + i * 3 - 1] then -- r
      local raw = rec:byte(2) == 49 and redis.call("HGET", W.working, done[i]) -- 1
      local unique, jid, queue = (raw or ""):match(HEADER)
      if queue then
        local _, _, seconds = lock_of(unique)
        -- Behind all others: another copy that a loss let in before it meets its lock and is dropped.
        redis.call("LPUSH", K.queue .. queue, again[done[i]] or raw)
        came_back(queue, raw)
        set[#set + 1] = fields[i + 1]
        set[#set + 1] = record("q", "0", rec:sub(3, 8), NOW + seconds, jid)
      else
        freed = freed + 1
        gone[freed] = fields[i + 1]
      end
    elseif rec then
      W.superseded = W.superseded + 1
    end
  end
  redis.call("HDEL", W.working, unpack(done))
  write_locks(E, set, gone)
end

local function trim_dead(W)
  redis.call("ZREMRANGEBYSCORE", K.dead, "-inf", string.format("(%.6f", NOW - W.dead_seconds))
  redis.call("ZREMRANGEBYRANK", K.dead, 0, -W.dead_max - 1)
end

local SET_OF = {t = K.retry, s = K.schedule}

-- Put a job where it belongs from now on. Where somebody has made that key another type, it stays with its process, as it
-- would stand there: the next beat finds it a stray and gives it back. Nothing rolls back, so an error would lose it.
local function put(W, o, kind, at, push)
  local wrote
  if kind == "t" or kind == "s" then wrote = redis.pcall("ZADD", SET_OF[kind], at, o[7])
  elseif kind == "d" then wrote = redis.pcall("ZADD", K.dead, STAMP, o[7])
  elseif kind == "b" then wrote = redis.pcall(push, K.queue .. o[5], o[7])
  elseif kind == "h" then wrote = redis.pcall("LPUSH", K.held .. o[5], o[7]) end
  if type(wrote) ~= "table" or not wrote.err then return true end
  redis.call("HSET", W.working, o[2], o[7])
  redis.call("HINCRBY", K.counts, "wrong_type", 1)
  return false
end

-- Has somebody cancelled this job? Its process may not have heard of it before its next beat.
local function is_cancelled(jid) return (tonumber(redis.pcall("ZSCORE", K.cancelled, jid)) or 0) > NOW end

-- one job that did not end well, or well for nothing: {kind, field, unique, jid, queue, delay, payload, payload to run again,
-- counter or "", note for its end or "": see lib/ended.lua}; what runs again has not ended
-- kind: t retry after delay seconds · s not failed, but again after delay seconds · d dead · b back on its queue · x gone
--   h held: its class is switched off, and stands in the place of the queue; gone if somebody has cancelled it
--   o dropped: its class is switched off, and a reconciler tells its row again, so not even the dirty mark keeps it; the
--   flag stands in the place of the note
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
  local push, version, at = "RPUSH", rec and rec:sub(3, 8) or "------", string.format("%.6f", NOW + o[6])
  if rec and rec:sub(2, 2) == "1" and kind:find("[dxs]") then kind, o[7], push = "b", o[8], "LPUSH"
  elseif kind == "s" and tonumber(o[6]) <= 0 then kind, push = "b", "LPUSH"
  elseif kind == "h" and is_cancelled(jid) then kind, o[9] = "x", "cancelled" end
  if not put(W, o, kind, at, push) then return end
  if o[9] ~= "" then redis.call("HINCRBY", K.counts, o[9], 1) end
  if SET_OF[kind] then
    redis.call("INCRBY", K.n .. SET_OF[kind], 1)
    if digest then write_locks(E, {digest, record(kind, "0", version, NOW + o[6] + seconds, jid .. "|" .. at)}, {}) end
    return
  end
  if kind == "b" then came_back(o[5], o[7])
  elseif kind == "h" then weigh(o[5], {o[7]}, 1)
  elseif kind == "o" then redis.pcall("HINCRBY", K.switched, o[10], 1)
  elseif o[10] ~= "" then tell_ended(o[10], version) end
  if kind == "d" then trim_dead(W) end
  if not digest then return end
  if kind == "b" or kind == "h" then write_locks(E, {digest, record("q", "0", version, NOW + seconds, jid)}, {})
  elseif rec then write_locks(E, {}, {digest}) end
end
