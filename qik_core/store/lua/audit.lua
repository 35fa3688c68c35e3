-- audit: do the lists and sorted sets hold as many of our jobs as were put there?
--
-- KEYS    lists and zsets
-- ARGV    none
-- returns how many jobs are missing: somebody deleted them under their locks
--
-- Why a script: count and length move together in every script, so only together do they prove anything.
--
-- include:
redis.call("DEL", K.never)
local missing = 0
for _, key in ipairs(KEYS) do
  local kind = redis.call("TYPE", key).ok
  local length = kind == "list" and redis.call("LLEN", key) or kind == "zset" and redis.call("ZCARD", key) or 0
  local counted = tonumber(redis.call("GET", K.n .. key) or length)
  if counted > length then
    missing = missing + counted - length
    redis.call("SET", K.n .. key, length)
  end
end
if missing > 0 then redis.call("HINCRBY", K.counts, "deleted_by_hand", missing) end
return missing
