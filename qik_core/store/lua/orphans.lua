-- orphans: which of these keys had a lock behind which a roll found no job, within the last hour?
--
-- KEYS    none
-- ARGV[1] digests, 22 characters each   [2] 1: forget those that are found
-- returns a character a digest: 1 found, 0 not
--
-- Why a script: a roll may end between the look at its name and the look into its hash. At most 500 digests a call.
--
-- include:
redis.call("DEL", K.never)
local fields, found, flags = {}, {}, {}
for i = 1, #ARGV[1] / 22 do fields[i] = ARGV[1]:sub(i * 22 - 21, i * 22) end
for _, generation in ipairs(#fields > 0 and redis.call("ZRANGE", K.orphans, 0, -1) or {}) do
  local key, gone = K.orphans .. ":" .. generation, {}
  for i, lock in ipairs(redis.call("HMGET", key, unpack(fields))) do
    if lock then
      found[i] = true
      gone[#gone + 1] = fields[i]
    end
  end
  if ARGV[2] == "1" and #gone > 0 then redis.call("HDEL", key, unpack(gone)) end
end
for i = 1, #fields do flags[i] = found[i] and "1" or "0" end
return table.concat(flags)
