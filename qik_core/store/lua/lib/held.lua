-- Jobs of a class that is switched off and that no reconciler tells. Two lists a class: what was found on queues, and
-- behind it, with a + at its name's end, what was pushed meanwhile; released from the tail. K.helds counts their bytes.
local MOST_HELD, MOST_HELD_BYTES = 10000, 64 * 1024 * 1024

-- How many jobs, and how many bytes, a class may still be given.
local function room(class)
  local key = K.held .. class
  local jobs = redis.call("LLEN", key) + redis.call("LLEN", key .. "+")
  return MOST_HELD - jobs, MOST_HELD_BYTES - (tonumber(redis.call("HGET", K.helds, class)) or 0)
end

-- These came into a list of a class (sign 1), or left it (-1).
local function weigh(class, raws, sign)
  local bytes = 0
  for _, raw in ipairs(raws) do bytes = bytes + #raw end
  redis.pcall("HINCRBY", K.helds, class, sign * bytes)
  if sign > 0 then redis.call("HINCRBY", K.counts, "held", #raws)
  elseif redis.call("EXISTS", K.held .. class, K.held .. class .. "+") == 0 then redis.pcall("HDEL", K.helds, class) end
end

-- The class whose held jobs are in such a list; nil for any other key.
local function class_held_in(key)
  return key:sub(1, #K.held) == K.held and key:sub(#K.held + 1):match("^[^+]*") or nil
end
