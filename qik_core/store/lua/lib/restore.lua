-- Jobs that come back to the list from which a flush or an export took them, and the locks that they had.

-- The last of raws is fetched first.
local function put_back(home, raws)
  if #raws == 0 then return end
  local ours, class = 0, class_held_in(home)
  for _, raw in ipairs(raws) do
    if is_counted(raw) then ours = ours + 1 end
  end
  redis.call("RPUSH", home, unpack(raws))
  if class then weigh(class, raws, 1)
  elseif ours > 0 then redis.pcall("INCRBY", K.n .. home, ours) end
  if home:sub(1, #K.queue) == K.queue then
    redis.call("SADD", K.queues, home:sub(#K.queue + 1))
    wake(home:sub(#K.queue + 1), #raws)
  elseif home:sub(1, #K.suspect) == K.suspect then
    redis.call("SADD", K.suspects, home:sub(#K.suspect + 1))
  end
end

-- The same for a sorted set; all of them are ours.
local function add_back(zset, raws, scores)
  local rows = {}
  for i, raw in ipairs(raws) do rows[i * 2 - 1], rows[i * 2] = scores[i], raw end
  local added = redis.call("ZADD", zset, unpack(rows))
  if added > 0 and zset ~= K.dead then redis.pcall("INCRBY", K.n .. zset, added) end
end

-- The record of a job that waits at this place. score: where the place is a sorted set.
local function waiting(home, score, seconds, jid)
  if not score then return record("q", "0", "------", NOW + seconds, jid) end
  local at = string.format("%.6f", score)
  local queue = home:sub(1, #K.later) == K.later and "@" .. home:sub(#K.later + 1) or ""
  local state = home == K.retry and "t" or "s"
  return record(state, "0", "------", math.max(NOW, score) + seconds, jid .. "|" .. at .. queue)
end

-- The locks of jobs at a place where they have none: one that is there stays as it is, whosever it is. While a roll is under
-- way their own ones leave the generation that ends, since its walk may have passed this place without them.
local function relock(E, home, raws, scores)
  local fields, made, owners, set = {"#"}, {}, {}, {}
  for i, raw in ipairs(raws) do
    local unique, jid = raw:match(HEADER)
    local digest, _, seconds = lock_of(unique or "")
    if digest then
      fields[#fields + 1] = digest
      made[#made + 1] = waiting(home, scores and tonumber(scores[i]), seconds, jid)
      owners[#owners + 1] = jid
    end
  end
  if #made == 0 then return end
  local found = read_locks(E, fields)
  for k, rec in ipairs(made) do
    local is = found[k + 1]
    if not is or (E.prev ~= "-" and is:sub(19):match("^[^|]+") == owners[k]) then
      set[#set + 1] = fields[k + 1]
      set[#set + 1] = is or rec
    end
  end
  write_locks(E, set, {})
end
