-- The right to run suspects, jobs under which a process has died: one process has it, and runs nothing else meanwhile.
local function suspects_wait(queues)
  if redis.call("EXISTS", K.suspects) == 0 then return false end
  for name in queues:gmatch("%S+") do
    if redis.call("SISMEMBER", K.suspects, name) == 1 and redis.call("SISMEMBER", K.paused, name) == 0 then return true end
  end
  return false
end

-- wish: k renews the right, y and n give it back, y asks for it. Returns whether it was given now.
local function turn(identity, wish, ms, queues)
  local holder = redis.call("GET", K.alone)
  if wish == "k" then
    if not holder or holder == identity then redis.call("SET", K.alone, identity, "PX", ms) end
    return false
  end
  if holder == identity then redis.call("DEL", K.alone) end
  if wish ~= "y" or not suspects_wait(queues) then return false end
  return redis.call("SET", K.alone, identity, "NX", "PX", ms) ~= false
end
