-- One flush at a time: what it does with a list that it has put aside must not meet what another one does.
-- Is it still the caller's turn, or nobody's? Then it is the caller's for so many ms more: what was sorted meanwhile by
-- one that has come and gone shows in the length of the list.
local function has_turn(who, ms)
  local holder = redis.call("GET", K.flusher)
  if holder and holder ~= who then return false end
  redis.call("SET", K.flusher, who, "PX", ms)
  return true
end
