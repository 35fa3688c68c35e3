-- minutes: what is in some hashes of minutes, as far as they are hashes and not too large.
--
-- KEYS    hashes
-- ARGV[1] so many fields of one are enough
-- returns 1 if one had more, else 0; then per key: field, value, …
--
-- Why a script: an hour is sixty hashes, and one that somebody made large must not hold the server up.
--
-- include:
local reply = {0}
for _, key in ipairs(KEYS) do
  local size, found = redis.pcall("HLEN", key), {}
  if type(size) == "number" and size > tonumber(ARGV[1]) then
    reply[1], found = 1, redis.call("HSCAN", key, "0", "COUNT", ARGV[1])[2]
  elseif type(size) == "number" and size > 0 then
    found = redis.call("HGETALL", key)
  end
  reply[#reply + 1] = found
end
return reply
