-- census: of which classes are the jobs in a part of a list or a sorted set?
--
-- KEYS[1] list or zset
-- ARGV[1] first index   [2] last index, at most 500 on
-- returns the whole length, then class, how many, class, how many …; a job that is not ours counts for the class ""
--
-- Why a script: payloads stay where they are; only names and numbers travel.
--
-- include:
redis.call("DEL", K.never)
local kind = redis.call("TYPE", KEYS[1]).ok
if kind ~= "list" and kind ~= "zset" then return {0} end
local length = redis.call(kind == "list" and "LLEN" or "ZCARD", KEYS[1])
local counts, reply = {}, {length}
for _, raw in ipairs(redis.call(kind == "list" and "LRANGE" or "ZRANGE", KEYS[1], ARGV[1], ARGV[2])) do
  local name = raw:match('^{"qik":"[^"]*","jid":"[^"]*","queue":"[^"]*","class":"([^"]*)"') or ""
  counts[name] = (counts[name] or 0) + 1
end
for name, count in pairs(counts) do
  reply[#reply + 1] = name
  reply[#reply + 1] = count
end
return reply
