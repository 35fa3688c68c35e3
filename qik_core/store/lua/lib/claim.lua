-- What a push meets under a lock that exists.
-- Returns a code (e enqueued, q s r t duplicate, a advanced, d dirtied) and the new record where it changes;
-- nil where the lock counts as absent; "true" third when the lock is past its window and a roll should look.
local function meet(rec, job)
  local state, tag = rec:sub(1, 1), rec:sub(3, 8)
  if rec:sub(19):match("^[^|]+") == job.jid then return "e" end
  local expired = tonumber(rec:sub(9, 18)) < NOW
  if state == "r" then
    local version = job.version
    local newer = version ~= "------" and tag ~= "------" and version ~= tag
    if job.pass and not newer then return "r", nil, expired end
    return "d", "r1" .. (version ~= "------" and version or tag) .. rec:sub(9), expired
  end
  if expired then
    if job.pass then return state, nil, true end
    return nil
  end
  if state == "s" and not job.pass and not job.at then return "a" end -- an edge that has a time of its own asks for no other
  return state
end

-- Whether one text stands before another in a zset. Lua's own < follows the server's locale.
local function before(a, b)
  for i = 1, #b do
    local x, y = a:byte(i) or -1, b:byte(i)
    if x ~= y then return x < y end
  end
  return false
end

-- The scheduled copy behind a lock, found by its score: {zset, payload, queue}; nil when it is not there. Of many with one
-- score the digest, with which each payload begins, leads to it.
local function scheduled_copy(digest, rec)
  local jid, score, name = rec:sub(19):match("^([^|]+)|([%d.]+)@?(.*)$")
  if not jid then return nil end
  local zset, head = name ~= "" and K.later .. name or K.schedule, '{"qik":"' .. digest
  local low = redis.call("ZCOUNT", zset, "-inf", "(" .. score)
  local last = low + redis.call("ZCOUNT", zset, score, score) - 1
  local high = last
  while low <= high do
    local middle = math.floor((low + high) / 2)
    if before(redis.call("ZRANGE", zset, middle, middle)[1], head) then low = middle + 1 else high = middle - 1 end
  end
  for _, raw in ipairs(low <= last and redis.call("ZRANGE", zset, low, math.min(last, low + 9)) or {}) do
    local _, found, queue = raw:match(HEADER)
    if found == jid then return {zset, raw, queue, jid} end
  end
  return nil
end
