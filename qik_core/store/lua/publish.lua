-- publish: these are the kill switches from now on, for every process that reads no more than Redis.
--
-- KEYS    none
-- ARGV[1] version   [2] 1 when they are known, 0 when nobody has ever seen them   [3] the snapshot, JSON that begins so
-- returns the version that stands now
--
-- Why a script: many processes publish, and an older snapshot, or the ignorance of a process that has just started, must
-- not replace a newer one. It must work on a full Redis: that is when there is most to switch off.
--
-- include:
redis.call("DEL", K.never)
local head = redis.pcall("GETRANGE", K.switches, 0, 59)
local version, known = (type(head) == "string" and head or ""):match('^{"version":(%d+),"known":(%l+),')
if version and #version > 16 then version, known = nil, nil end -- no snapshot has such a one
if version and tonumber(version) > tonumber(ARGV[1]) then return version end
if known == "true" and ARGV[2] == "0" then return version end
redis.call("SET", K.switches, ARGV[3])
return ARGV[1]
