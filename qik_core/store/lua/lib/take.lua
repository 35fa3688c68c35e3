-- Jobs that a person points at, by their exact bytes: out of a list or sorted set, and what becomes of their locks.
local GONE = "qik:gone" -- stands in a list for what is about to be removed, inside one script only

-- Of a key and the type that it must have, more pairs behind: an error that names the first which has another.
local function misfit(...)
  local wanted = {...}
  for i = 1, #wanted, 2 do
    local found = redis.call("TYPE", wanted[i]).ok
    if found ~= "none" and found ~= wanted[i + 1] then
      return redis.error_reply("WRONGTYPE key " .. wanted[i] .. " is a " .. found)
    end
  end
end

-- Jobs that begin as ours are counted with the list or set in which they are: see lib/fetch.lua.
local function is_counted(raw) return raw:sub(1, 8) == '{"qik":"' end

-- LREM walks the list for every element, so a window of 500 is marked first and removed in one walk. at: where the caller
-- saw the window begin, from the end when negative; "": anywhere, one walk each.
local function take_from_list(key, raws, at)
  local taken, places, marked = {}, {}, 0
  if at == "" then
    for i, raw in ipairs(raws) do taken[i] = redis.call("LREM", key, 1, raw) == 1 end
    return taken
  end
  at = math.max(tonumber(at), -redis.call("LLEN", key))
  local last = (at < 0 and at >= -499) and -1 or at + 499
  for i = #raws, 1, -1 do
    places[raws[i]] = places[raws[i]] or {}
    table.insert(places[raws[i]], i)
  end
  for j, raw in ipairs(redis.call("LRANGE", key, at, last)) do
    local i = places[raw] and table.remove(places[raw])
    if i then
      redis.call("LSET", key, at + j - 1, GONE)
      taken[i], marked = true, marked + 1
    end
  end
  if marked > 0 then redis.call("LREM", key, at < 0 and -marked or marked, GONE) end
  return taken
end

-- returns which of raws were there and are gone now
local function take(key, raws, at)
  local taken, ours, gone, class = {}, 0, {}, class_held_in(key)
  if redis.call("TYPE", key).ok == "list" then taken = take_from_list(key, raws, at)
  else
    for i, raw in ipairs(raws) do taken[i] = redis.call("ZREM", key, raw) == 1 end
  end
  for i, raw in ipairs(raws) do
    if taken[i] then gone[#gone + 1] = raw end
    if taken[i] and is_counted(raw) then ours = ours + 1 end
  end
  if class then weigh(class, gone, -1)
  elseif ours > 0 and key ~= K.dead then redis.pcall("DECRBY", K.n .. key, ours) end
  if key:sub(1, #K.suspect) == K.suspect and redis.call("EXISTS", key) == 0 then
    redis.call("SREM", K.suspects, key:sub(#K.suspect + 1))
  end
  return taken
end

-- Is this lock that of a job with this jid which waits? A running one belongs to its holder.
local function waits(rec, jid)
  return rec and rec:sub(1, 1) ~= "r" and rec:sub(19):match("^[^|]+") == jid
end

-- The locks of the jobs that were taken: gone where they are theirs. digests: "" for a job without a lock.
local function free(E, taken, digests, jids)
  local fields, owners, gone = {"#"}, {}, {}
  for i, digest in ipairs(digests) do
    if taken[i] and digest ~= "" then
      fields[#fields + 1] = digest
      owners[#owners + 1] = jids[i]
    end
  end
  if #owners == 0 then return end
  local found = read_locks(E, fields)
  for k, jid in ipairs(owners) do
    if waits(found[k + 1], jid) then gone[#gone + 1] = fields[k + 1] end
  end
  write_locks(E, {}, gone)
end

-- One character a job: 1 taken, 0 not there any more.
local function told_of(raws, taken)
  local flags = {}
  for i = 1, #raws do flags[i] = taken[i] and "1" or "0" end
  return table.concat(flags)
end
