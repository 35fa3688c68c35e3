-- One flush at a time: what it does with a list that it has put aside must not meet what another one does.
-- Is it still the caller's turn, or nobody's? Then it is the caller's for so many ms more: what was sorted meanwhile by
-- one that has come and gone shows in the length of the list.
local function has_turn(who, ms)
  local holder = redis.call("GET", K.flusher)
  if holder and holder ~= who then return false end
  redis.call("SET", K.flusher, who, "PX", ms)
  return true
end

-- Which jobs of those that a file keeps the last step has removed: a flush that dies behind it does not live to write that
-- down. more: these belong to the step before. The mark # says that the key has not been lost.
local function note_removed(key, jids, removed, more)
  if not key then return end
  local rows = {"#"}
  for i, jid in ipairs(jids) do
    if removed[i] then rows[#rows + 1] = jid end
  end
  if not more then redis.call("DEL", key) end
  redis.call("SADD", key, unpack(rows))
  redis.call("EXPIRE", key, 2592000)
end
