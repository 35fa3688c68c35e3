-- release: some of the held jobs of a class go to their queues, the first one first.
--
-- KEYS[1] qik:held:<class> or qik:held:<class>+ list
-- ARGV[1] class   [2] ms within which no more of the class are released   [3] where the caller's window of 500 begins,
--     from the list's end   [4…] pairs: queue, with a ! in front for its suspects, and payload; none only forgets
--     a class of which nothing is held
-- returns how many; -1: others have been released within that time, or a roll is under way
--
-- Why a script: a job that is in neither list nor queue is lost, and many processes release. The locks stay as they are:
-- they say of both places that the job waits. At most 250 jobs.
--
-- include: epoch locks wake held take
redis.call("DEL", K.never)
local class, raws, queues, from = ARGV[1], {}, {}, {}
for i = 4, #ARGV, 2 do
  local suspect, queue = ARGV[i]:match("^(!?)(.*)$")
  local wrong = misfit(KEYS[1], "list", (suspect == "!" and K.suspect or K.queue) .. queue, "list")
  if wrong then return wrong end
  queues[#queues + 1], raws[#raws + 1], from[#from + 1] = queue, ARGV[i + 1], suspect == "!" and K.suspect or K.queue
end
-- A walk that this list shrinks under would pass over jobs, and their locks would be gone with it.
local rolling = (redis.call("GET", K.epoch) or ""):match("^%S+ %S+ (%S+) ")
if rolling and rolling ~= "-" then return -1 end
if #raws > 0 and not redis.call("SET", K.released .. class, "1", "NX", "PX", ARGV[2]) then return -1 end
if #raws == 0 and (tonumber(redis.call("HGET", K.helds, class)) or 0) > 0 and redis.call("EXISTS", KEYS[1]) == 0 then
  redis.call("SET", K.roll, "1", "EX", 300) -- somebody deleted the list: the locks of what it held must be found
end
local taken, released = take(KEYS[1], raws, ARGV[3]), 0
for i, raw in ipairs(raws) do
  if taken[i] then
    local queue = queues[i]
    released = released + 1
    redis.call("LPUSH", from[i] .. queue, raw)
    redis.call("SADD", from[i] == K.suspect and K.suspects or K.queues, queue)
    if is_counted(raw) then redis.call("INCRBY", K.n .. from[i] .. queue, 1) end
    wake(queue, 1)
  end
end
return released
