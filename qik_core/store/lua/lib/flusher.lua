-- One flush at a time: what it does with a list that it has put aside must not meet what another one does.
-- Is it still the caller's turn? Then it is for so many ms more.
local function has_turn(who, ms)
  if redis.call("GET", K.flusher) ~= who then return false end
  redis.call("PEXPIRE", K.flusher, ms)
  return true
end
