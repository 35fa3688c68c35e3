-- requeue: jobs of a sorted set go to their queues now, each under its lock.
--
-- KEYS[1] schedule | retry | dead | qik:later:<queue> zset
-- ARGV[1] candidate epoch   [2] 1 when times on the wire are milliseconds
--     [3…] sevens: digest or "", unique_for, jid, queue, payload as it is there, payload for the queue without enqueued_at,
--     note for the end of what was dead or ""
-- returns a text a job: 1 on its queue now, 0 not there any more, or = and the jid of the job that holds its key
--
-- Why a script: the job, its lock and the place that it leaves must change together, and a job must not come back under
-- a key that another one holds by now: it would be dropped when fetched. At most 500 jobs.
--
-- include: epoch locks wake ended held take
redis.call("DEL", K.never)
local fields = {"#"}
for i = 3, #ARGV, 7 do
  local wrong = misfit(KEYS[1], "zset", K.queue .. ARGV[i + 3], "list")
  if wrong then return wrong end
  if ARGV[i] ~= "" then fields[#fields + 1] = ARGV[i] end
end
local E, recs, set, reply = open_epoch(ARGV[1]), {}, {}, {}
if #fields > 1 then
  local found = read_locks(E, fields)
  for k = 2, #fields do recs[fields[k]] = found[k] end
end
for i = 3, #ARGV, 7 do
  local digest, seconds, jid, queue, old, new = unpack(ARGV, i, i + 5)
  local rec, answer = recs[digest], "1"
  if rec and held_elsewhere(rec, jid) then answer = "=" .. rec:sub(19):match("^[^|]+")
  elseif not take(KEYS[1], {old})[1] then answer = "0"
  else
    redis.call("LPUSH", K.queue .. queue, stamped(new, ARGV[2]))
    redis.call("SADD", K.queues, queue)
    if is_counted(new) then redis.call("INCRBY", K.n .. K.queue .. queue, 1) end
    if digest ~= "" then
      recs[digest] = record("q", "0", rec and rec:sub(3, 8) or "------", NOW + seconds, jid)
      write_locks(E, {digest, recs[digest]}, {})
    end
    wake(queue, 1)
    if ARGV[i + 6] ~= "" then tell_ended(ARGV[i + 6], "------") end
  end
  reply[#reply + 1] = answer
end
return reply
