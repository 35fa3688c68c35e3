-- beat: this process is alive; what does it hold, and what does somebody ask of it?
--
-- KEYS[1] <identity> hash   [2] <identity>-signals list   [3] qik:working:<identity> hash   [4] <identity>:work hash
-- ARGV[1] candidate epoch   [2] identity   [3] how many values the heartbeat hash gets
--     [4…] those: name, value; then thread, work for Sidekiq's Busy page
-- returns ok | fenced, epoch, time, signal or "", whether a roll is asked for, then the fields of the working hash
--
-- Why a script: a fenced process must not look alive, and what it holds must be read at the moment of its beat.
--
-- include: epoch
redis.call("DEL", K.never)
local E, identity = open_epoch(ARGV[1]), ARGV[2]
if redis.call("HGET", KEYS[3], "#") == "fenced" then return {"fenced", E.text, STAMP, "", "0"} end
redis.call("ZADD", K.alive, STAMP, identity)
redis.call("SADD", K.processes, identity)
redis.call("HSET", KEYS[1], "beat", STAMP, unpack(ARGV, 4, 3 + ARGV[3]))
redis.call("EXPIRE", KEYS[1], 60)
for _, name in ipairs({KEYS[4], KEYS[1] .. ":workers"}) do -- :workers is what Sidekiq before 6.4.2 reads
  redis.call("UNLINK", name)
  if #ARGV > 3 + ARGV[3] then
    redis.call("HSET", name, unpack(ARGV, 4 + ARGV[3]))
    redis.call("EXPIRE", name, 60)
  end
end
local signal = redis.call("RPOP", KEYS[2]) or ""
local reply = {"ok", E.text, STAMP, signal, redis.call("GET", K.roll) or "0"}
for _, field in ipairs(redis.call("HKEYS", KEYS[3])) do
  if field ~= "#" and field ~= "@" then reply[#reply + 1] = field end
end
return reply
