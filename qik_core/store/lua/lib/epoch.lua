-- The server's clock, and the epoch: which life of Redis this is.
-- E = {loss, gen, prev, birth, text}. A missing epoch is made from the caller's candidate, so the signal of a loss
-- is a change, never an absence.
local TIME = redis.call("TIME")
local NOW = tonumber(TIME[1]) + tonumber(TIME[2]) / 1000000
local STAMP = string.format("%.6f", NOW)

local function make_epoch(E)
  local loss, gen, born = E.candidate:match("^(%S+) (%S+) (%d*)$")
  local birth = born ~= "" and born or string.format("%.0f", math.floor(NOW * 1000))
  E.loss, E.gen, E.prev, E.birth = loss, gen, "-", tonumber(birth)
  E.text = loss .. " " .. gen .. " - " .. birth
  redis.call("SET", K.epoch, E.text)
  redis.call("HSET", K.unique .. gen, "#", "1")
  return E
end

-- candidate: "<loss id> <generation> <birth in ms, or nothing for now>", used when there is no epoch
local function open_epoch(candidate)
  local E = {candidate = candidate}
  local text = redis.call("GET", K.epoch)
  local loss, gen, prev, birth = (text or ""):match("^(%S+) (%S+) (%S+) (%d+)$")
  if not loss then return make_epoch(E) end
  E.loss, E.gen, E.prev, E.birth, E.text = loss, gen, prev, tonumber(birth), text
  return E
end
