-- forget: the oldest records of jobs that have ended are removed, as far as the caller has read them.
--
-- KEYS    none
-- ARGV[1…] the records that were read, the oldest first
-- returns how many were removed
--
-- Why a script: another reader may have removed some of them, and what is oldest now was not read then. At most 500.
--
-- include:
redis.call("DEL", K.never)
local there, read, gone = redis.call("LRANGE", K.ended, -#ARGV, -1), {}, 0
for _, record in ipairs(ARGV) do read[record] = (read[record] or 0) + 1 end
for i = #there, 1, -1 do
  local left = read[there[i]] or 0
  if left == 0 then break end
  read[there[i]], gone = left - 1, gone + 1
end
if gone > 0 then redis.call("LTRIM", K.ended, 0, -gone - 1) end
return gone
