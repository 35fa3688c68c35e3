-- told: for which keys does a job exist?
--
-- KEYS    none
-- ARGV[1] candidate epoch   [2] digests, 22 characters each   [3] row versions, 6 each, or nothing
-- returns a character a digest (- none, else the state; - also for a running job of an older row version), epoch
--
-- Why a script: during a roll two hashes must be read as one. At most 500 digests a call.
--
-- include: epoch locks
redis.call("DEL", K.never)
local E, fields, reply = open_epoch(ARGV[1]), fields_of(ARGV[2]), {}
local found, expired = read_locks(E, fields), false
for i = 1, #fields - 1 do
  local rec = found[i + 1]
  local state = rec and rec:sub(1, 1) or "-"
  if rec and tonumber(rec:sub(9, 18)) < NOW then expired = true end
  if state == "r" and ARGV[3] ~= "" then
    local version, tag = ARGV[3]:sub(i * 6 - 5, i * 6), rec:sub(3, 8)
    if version ~= "------" and tag ~= "------" and version ~= tag then state = "-" end
  end
  reply[i] = state
end
if expired then redis.call("SET", K.roll, "1", "EX", 300) end
return {table.concat(reply), E.text}
