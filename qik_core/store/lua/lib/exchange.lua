-- The smaller steps of an exchange.
-- A re-send: the same fields again. What is no longer there was given back since; it answers nil. Which queue a foreign
-- job came from is forgotten by then: the caller reads it in the payload.
local function same_again(E, working, seq, count)
  local reply, runs = {"again", E.text, STAMP, 0, ""}, {}
  for i = 1, count do
    local raw = redis.call("HGET", working, string.format("%.0f", seq) .. "." .. i)
    local _, _, queue = (raw or ""):match(HEADER)
    runs[i] = (queue or "?") .. " 1"
    reply[i + 5] = raw
  end
  reply[5] = table.concat(runs, " ")
  return reply
end

local function add(key, by, day)
  redis.call("INCRBY", key, by)
  if redis.call("INCRBY", key .. ":" .. day, by) == by then redis.call("EXPIRE", key .. ":" .. day, 157680000) end
end

local function count_runs(day, runs, failures)
  if runs > 0 then add(K.stat .. "processed", runs, day) end
  if failures > 0 then add(K.stat .. "failed", failures, day) end
end

local function sleep_on(queues, identity)
  for _, name in ipairs(queues) do
    redis.call("SADD", K.idle .. name, identity)
    redis.call("EXPIRE", K.idle .. name, 60)
  end
end
