-- roll_end: when everybody has beaten in the new generation, take the previous one away; what is left in it, unless that
-- is very much, is known for an hour.
--
-- KEYS    working hashes of all processes and hashes of locks, as the caller found them
-- ARGV[1] candidate epoch   [2] generation
-- returns how many locks had no job behind them; -1 not yet; -2 the generation changed
--
-- Why a script: the check of every holder and the end of the old generation must be one step.
--
-- include: epoch locks
redis.call("DEL", K.never)
local E = open_epoch(ARGV[1])
if E.gen ~= ARGV[2] or E.prev == "-" then return -2 end
local waiting, orphans = {}, {K.unique .. E.prev} -- and what a lost epoch has left behind
for _, key in ipairs(KEYS) do
  if key:sub(1, #K.unique) ~= K.unique then waiting[key] = true
  elseif key ~= K.unique .. E.gen then orphans[#orphans + 1] = key end
end
for _, identity in ipairs(redis.call("ZRANGE", K.alive, 0, -1)) do waiting[K.working .. identity] = "alive" end
for key, how in pairs(waiting) do
  local seen = redis.call("HMGET", key, "#", "@")
  if (seen[1] or how == "alive") and seen[1] ~= "fenced" and seen[2] ~= E.gen then return -1 end
  if redis.call("EXISTS", K.recovering .. key:sub(#K.working + 1)) == 1 then return -1 end
end
local left = redis.call("HLEN", K.unique .. E.prev) - 1
-- What is left in it: a pass that tells one of these rows again may ask why. No number: that key has another type.
local known = left > 0 and left <= 500000 and redis.pcall("ZADD", K.orphans, NOW + 3600, E.gen)
if type(known) == "number" then
  redis.call("RENAME", K.unique .. E.prev, K.orphans .. ":" .. E.gen)
  redis.call("EXPIRE", K.orphans .. ":" .. E.gen, 3600)
  redis.call("ZREMRANGEBYSCORE", K.orphans, "-inf", STAMP)
  redis.call("EXPIRE", K.orphans, 3600)
end
redis.call("UNLINK", unpack(orphans))
redis.call("SET", K.epoch, E.loss .. " " .. E.gen .. " - " .. string.format("%.0f", E.birth))
redis.call("DEL", K.roller, K.roll)
if left > 0 then redis.call("HINCRBY", K.counts, "lock_without_job", left) end
return left
