-- Pop up to `want` jobs from the queues, in the order given, and put them under this process.
local function pop(W, queues, want)
  local got, paused = {}, redis.call("SMISMEMBER", K.paused, unpack(queues))
  for i, name in ipairs(queues) do
    if want <= #got then break end
    local raws, ours = paused[i] == 0 and redis.call("RPOP", K.queue .. name, want - #got) or {}, 0
    for _, raw in ipairs(raws) do
      local unique, jid = raw:match(HEADER)
      if unique then ours = ours + 1 end
      got[#got + 1] = {raw, unique or "", jid or "", name}
    end
    if ours > 0 then redis.call("DECRBY", K.n .. K.queue .. name, ours) end
  end
  return got
end

-- false: another job, or another run, holds this key, and this copy is one too many
local function may_run(rec, jid)
  if not rec then return true end
  if rec:sub(1, 1) == "r" then return false end
  return rec:sub(19):match("^[^|]+") == jid or tonumber(rec:sub(9, 18)) < NOW
end

-- returns payload, queue, payload, queue, …; field <seq>.<i> is the i-th
local function fetch(E, W, queues, want, seq)
  local got, fields, place = pop(W, queues, want), {"#"}, {}
  for i, job in ipairs(got) do
    local digest = lock_of(job[2])
    if digest then
      fields[#fields + 1] = digest
      place[i] = #fields
    end
  end
  local found = #fields > 1 and read_locks(E, fields) or {}
  local reply, hash, set, gone, mine = {}, {}, {}, {}, {}
  for i, job in ipairs(got) do
    local digest, until_, seconds = lock_of(job[2])
    local rec = digest and (mine[digest] or found[place[i]])
    if digest and not may_run(rec, job[3]) then
      W.superseded = W.superseded + 1
    else
      if until_ == "T" then gone[#gone + 1] = digest
      elseif digest then
        mine[digest] = running(rec, seconds, W.lease, job[3], W.holder)
        set[#set + 1] = digest
        set[#set + 1] = mine[digest]
      end
      reply[#reply + 1] = job[1]
      reply[#reply + 1] = job[4]
      hash[#hash + 1] = seq .. "." .. #reply / 2
      hash[#hash + 1] = job[1]
    end
  end
  if #hash > 0 then redis.call("HSET", W.working, unpack(hash)) end
  write_locks(E, set, gone)
  return reply, #got
end
