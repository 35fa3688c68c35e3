-- promote: due jobs of a sorted set go to their queues.
--
-- KEYS[1] schedule | retry | qik:later:<queue> zset, score is the due time in epoch seconds
-- ARGV[1] how many at most   [2] 1 when times on the wire are milliseconds
-- returns moved, set aside as no jobs, the score of the next one or ""
--
-- Why a script: a poller that dies between ZREM and LPUSH would lose the job. It never asks a lock: the job holds it.
-- A foreign payload is read for its queue alone and moves unchanged; one that is no job goes to the dead set, raw.
--
-- include: epoch locks wake
redis.call("DEL", K.never)
local due = redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", STAMP, "LIMIT", 0, ARGV[1])
local queues, counted, ours, aside = {}, {}, 0, 0
for _, raw in ipairs(due) do
  local _, _, queue = raw:match(HEADER)
  local mine = raw:sub(1, 8) == '{"qik":"' and 1 or 0 -- also a job of Ruby's without a jid, once it has failed here
  ours = ours + mine
  if queue then
    raw = stamped(raw, ARGV[2])
  else
    local ok, job = pcall(cjson.decode, raw)
    queue = ok and type(job) == "table" and type(job.queue) == "string" and job.queue:match("^[%w_.:-]+$")
  end
  if queue then
    queues[queue] = queues[queue] or {}
    table.insert(queues[queue], raw)
    counted[queue] = (counted[queue] or 0) + mine
  else
    aside = aside + 1
    redis.call("ZADD", K.dead, STAMP, raw)
    redis.call("HINCRBY", K.counts, "malformed", 1)
  end
end
if #due > 0 then redis.call("ZREM", KEYS[1], unpack(due)) end
if ours > 0 then redis.call("DECRBY", K.n .. KEYS[1], ours) end
for queue, raws in pairs(queues) do
  redis.call("LPUSH", K.queue .. queue, unpack(raws))
  redis.call("SADD", K.queues, queue)
  if counted[queue] > 0 then redis.call("INCRBY", K.n .. K.queue .. queue, counted[queue]) end
  wake(queue, #raws)
end
local next_ = redis.call("ZRANGE", KEYS[1], 0, 0, "WITHSCORES")
return {#due - aside, aside, next_[2] or ""}
