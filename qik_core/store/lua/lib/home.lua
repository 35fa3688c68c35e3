-- Put one job that its process does not run where it waits now: next on its queue, or the last of its suspects.
local function send_home(where, queue, raw, ours)
  local from = where == "s" and K.suspect or K.queue
  if where == "s" then
    redis.call("LPUSH", from .. queue, raw)
    redis.call("SADD", K.suspects, queue)
  else
    redis.call("RPUSH", from .. queue, raw)
    redis.call("SADD", K.queues, queue)
    wake(queue, 1)
  end
  if ours then redis.call("INCRBY", K.n .. from .. queue, 1) end
end
