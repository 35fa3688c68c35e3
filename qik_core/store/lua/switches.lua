-- switches: the kill switches, if they are newer than those that the caller knows.
--
-- KEYS    none
-- ARGV[1] version that is known   [2…] pairs: flag, how many jobs were refused because of it since the last call; or a
--     total that is kept for people, and how many
-- returns the snapshot, or "" when it is not newer, or is not there
--
-- Why a script: up to 1 MB is read once a second by every process, and nearly always nothing has changed; and it must
-- count on a full Redis.
--
-- include:
redis.call("DEL", K.never)
for i = 2, #ARGV, 2 do
  local flag = ARGV[i]:sub(1, 8) == "disable_"
  if flag then redis.pcall("HINCRBY", K.switched, ARGV[i], ARGV[i + 1]) end
  redis.pcall("HINCRBY", K.counts, flag and "switched_off" or ARGV[i], ARGV[i + 1])
end
local head = redis.pcall("GETRANGE", K.switches, 0, 59)
if type(head) ~= "string" then return "of another type" end
local version = tonumber(head:match('^{"version":(%d+),'))
if head == "" or (version and version <= tonumber(ARGV[1])) then return "" end
return redis.call("STRLEN", K.switches) > 1000000 and head or redis.call("GET", K.switches)
