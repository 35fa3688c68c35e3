-- What the reconciler is told of jobs that came to a bad end, or ended well for nothing: a list, the newest first, capped.
-- note: "<kind> <json>", made outside; a ? in front: only where somebody reads. The record: "<kind> <time> <version> <json>".
local MOST_ENDED = 100000
local function tell_ended(note, version)
  local doubt, kind, rest = note:match("^(%??)([%l_]+) (.*)$")
  if not kind or (doubt == "?" and redis.call("EXISTS", K.ended_read) == 0) then return end
  local length = redis.pcall("LPUSH", K.ended, kind .. " " .. STAMP .. " " .. version .. " " .. rest)
  local lost = type(length) ~= "number" and 1 or length - MOST_ENDED -- no number: somebody made that key another type
  if type(length) == "number" then redis.call("HINCRBY", K.counts, "ended_" .. kind, 1) end
  if lost > 0 then redis.call("HINCRBY", K.counts, "ended_lost", lost) end
  if lost > 0 and type(length) == "number" then redis.call("LTRIM", K.ended, 0, MOST_ENDED - 1) end
end
