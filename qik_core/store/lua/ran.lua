-- ran: add what ran to the minute and to the ten minutes, as Sidekiq's Metrics page reads them.
--
-- KEYS[1] hash of the minute   [2] hash of the ten minutes
-- ARGV[1] seconds that a minute is kept   [2] the same of ten minutes
--     [3…] per class: name, processed, failed, ms, key of its histogram, then "<bucket> <count> …"
-- returns the first error, or nothing
--
-- Why a script: one round trip a beat, and no hash is left that has no TTL. A key that somebody spoiled costs its own
-- numbers alone.
--
-- include:
local trouble
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) == "table" and reply.err then trouble = trouble or reply.err end
end

for at = 3, #ARGV, 6 do
  local name, histogram = ARGV[at], ARGV[at + 4]
  for part, kind in ipairs({"|p", "|f", "|ms"}) do
    if ARGV[at + part] ~= "0" then
      for _, key in ipairs(KEYS) do try("HINCRBY", key, name .. kind, ARGV[at + part]) end
    end
  end
  for bucket, count in ARGV[at + 5]:gmatch("(%d+) (%d+)") do
    try("BITFIELD", histogram, "OVERFLOW", "SAT", "INCRBY", "u16", "#" .. bucket, count)
  end
  try("EXPIRE", histogram, ARGV[1])
end
for part, key in ipairs(KEYS) do try("EXPIRE", key, ARGV[part]) end
return trouble
