-- beat: this process is alive; what does it hold, and what does somebody ask of it?
--
-- KEYS[1] <identity> hash   [2] <identity>-signals list   [3] qik:working:<identity> hash   [4] <identity>:work hash
-- ARGV[1] candidate epoch   [2] identity   [3] its queues, spaces between
--     [4] the right to run suspects: k it is being used, y it would be, n not now   [5] ms for which it holds
--     [6] how many values the heartbeat hash gets   [7…] those: name, value; then thread, work for Sidekiq's Busy page
-- returns ok | fenced, epoch, time, signal or "", flags (r a roll is asked for, n Redis did not know us, l it has
--     no working hash of ours, a the right was given), how many processes are alive, at most 500 jids cancelled last, then the fields of the working hash
--
-- Why a script: a fenced process must not look alive, and what it holds must be read at the moment of its beat.
--
-- include: epoch alone
redis.call("DEL", K.never)
local E, identity = open_epoch(ARGV[1]), ARGV[2]
local mark = redis.call("HGET", KEYS[3], "#")
if mark == "fenced" then return {"fenced", E.text, STAMP, "", "", 0, {}} end
local flags = (redis.call("EXISTS", KEYS[1]) == 0 and "n" or "") .. (mark and "" or "l")
redis.call("ZADD", K.alive, STAMP, identity)
redis.call("SADD", K.processes, identity)
redis.call("HSET", KEYS[1], "beat", STAMP, unpack(ARGV, 7, 6 + ARGV[6]))
redis.call("EXPIRE", KEYS[1], 60)
for _, name in ipairs({KEYS[4], KEYS[1] .. ":workers"}) do -- :workers is what Sidekiq before 6.4.2 reads
  redis.call("UNLINK", name)
  if #ARGV > 6 + ARGV[6] then
    redis.call("HSET", name, unpack(ARGV, 7 + ARGV[6]))
    redis.call("EXPIRE", name, 60)
  end
end
if redis.call("GET", K.roll) then flags = flags .. "r" end
if turn(identity, ARGV[4], ARGV[5], ARGV[3]) then flags = flags .. "a" end
redis.call("ZREMRANGEBYSCORE", K.cancelled, "-inf", STAMP)
local reply = {"ok", E.text, STAMP, redis.call("RPOP", KEYS[2]) or "", flags, redis.call("ZCARD", K.alive),
  redis.call("ZREVRANGE", K.cancelled, 0, 499)}
for _, field in ipairs(redis.call("HKEYS", KEYS[3])) do
  if field ~= "#" and field ~= "@" then reply[#reply + 1] = field end
end
return reply
