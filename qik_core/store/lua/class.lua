-- class: what some hashes of minutes say of one class, and its histograms.
--
-- KEYS    hashes of minutes, then strings with histograms
-- ARGV[1] how many hashes   [2…] the fields
-- returns per hash the values of the fields, per string its first 52 bytes; nothing of a key that holds something else
--
-- Why a script: an hour is sixty hashes and sixty strings.
--
-- include:
local reply = {}
for at, key in ipairs(KEYS) do
  local hash = at <= tonumber(ARGV[1])
  local found = hash and redis.pcall("HMGET", key, unpack(ARGV, 2)) or not hash and redis.pcall("GETRANGE", key, 0, 51)
  reply[at] = type(found) == "table" and found.err and "" or found
end
return reply
