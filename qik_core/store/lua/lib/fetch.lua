-- Pop up to `want` jobs from the queues, in the order given, and put them under this process.
-- Ours are known by their first bytes; what follows in the header is read only where there is a lock.

-- The locks of what was popped: takes those that are free; returns which of raws must not run.
-- locks: parallel lists digest (from 2, behind "#"), at (place among the payloads), until_, seconds, jid
local function take_locks(E, W, locks)
  local found, taken, dropped, set, gone, n = read_locks(E, locks.digest), {}, {}, {}, {}, 0
  for k, place in ipairs(locks.at) do
    local digest, jid = locks.digest[k + 1], locks.jid[k]
    local rec = taken[digest] or found[k + 1]
    if rec and held_elsewhere(rec, jid) then
      dropped[place] = true
      W.superseded = W.superseded + 1
    elseif locks.until_[k] == "T" then
      gone[#gone + 1] = digest
    else
      rec = running(rec, locks.seconds[k], W.lease, jid, W.holder)
      taken[digest] = rec
      set[n + 1], set[n + 2] = digest, rec
      n = n + 2
    end
  end
  write_locks(E, set, gone)
  return dropped
end

-- Which of these payloads are ours, and the locks that they name.
local function read_headers(raws)
  local ours, n, locks = 0, 0, {digest = {"#"}, at = {}, until_ = {}, seconds = {}, jid = {}}
  for i, raw in ipairs(raws) do
    if raw:sub(1, 8) == '{"qik":"' then
      ours = ours + 1
      local digest, until_, seconds, jid = raw:match('^........(......................)([ST])(%d+)","jid":"([%w_-]+)"')
      if digest then
        n = n + 1
        locks.digest[n + 1], locks.at[n], locks.until_[n], locks.seconds[n], locks.jid[n] = digest, i, until_, seconds, jid
      end
    end
  end
  return ours, n > 0 and locks
end

-- W.alone: from their suspects, jobs under which a process has died.
-- returns the payloads to run, and how many of each queue: name, count, name, count, …
local function fetch(E, W, queues, want, seq)
  local paused = redis.call("SMISMEMBER", K.paused, unpack(queues))
  local kept, hash, runs, popped, n, from = {}, {}, {}, 0, 0, W.alone and K.suspect or K.queue
  for q, name in ipairs(queues) do
    if popped >= want then break end
    local raws, before = paused[q] == 0 and redis.call("RPOP", from .. name, want - popped) or {}, n
    local ours, locks = read_headers(raws)
    local dropped = locks and take_locks(E, W, locks) or {}
    for i, raw in ipairs(raws) do
      if not dropped[i] then
        n = n + 1
        kept[n], hash[n * 2 - 1], hash[n * 2] = raw, seq .. n, raw
      end
    end
    if ours > 0 then redis.call("DECRBY", K.n .. from .. name, ours) end
    if W.alone and redis.call("EXISTS", from .. name) == 0 then redis.call("SREM", K.suspects, name) end
    popped = popped + #raws
    if n > before then runs[#runs + 1] = name .. " " .. (n - before) end
  end
  if n > 0 then redis.call("HSET", W.working, unpack(hash)) end
  return kept, table.concat(runs, " "), popped
end
