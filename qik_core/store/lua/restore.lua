-- restore: jobs of an export go back to where they were, each once.
--
-- KEYS[1] list or zset   [2] qik:restored:<export> set
-- ARGV[1] candidate epoch   [2] list | zset   [3] seconds for which it is known what was put back
--     [4…] triples: jid, score or "", payload
-- returns a text a job: 1 it is back, 0 it was put back before or is there, or = and the jid of the job that holds its key
--
-- Why a script: job, lock and the note that it was put back appear together, so that a call sent twice, or an import that
-- is begun anew, adds nothing. At most 500 jobs.
--
-- include: epoch locks held take wake restore
redis.call("DEL", K.never)
local wrong = misfit(KEYS[1], ARGV[2], KEYS[2], "set")
if wrong then return wrong end
local E, jids, fields, at = open_epoch(ARGV[1]), {}, {"#"}, {}
for i = 4, #ARGV, 3 do
  local digest = KEYS[1] ~= K.dead and lock_of(ARGV[i + 2]:match(HEADER) or "")
  jids[#jids + 1] = ARGV[i]
  if digest then
    fields[#fields + 1] = digest
    at[#jids] = #fields
  end
end
local known, found, reply = redis.call("SMISMEMBER", KEYS[2], unpack(jids)), read_locks(E, fields), {}
local raws, scores, fresh, mine, owner = {}, {}, {}, {}, {}
for i, jid in ipairs(jids) do
  local rec, digest = at[i] and found[at[i]], at[i] and fields[at[i]] or ""
  local holder = owner[digest] or rec and rec:sub(19):match("^[^|]+")
  if known[i] == 1 or mine[jid] or holder == jid then reply[i] = "0"
  elseif owner[digest] or rec and held_elsewhere(rec, jid) then reply[i] = "=" .. holder
  else
    reply[i], fresh[#fresh + 1], mine[jid] = "1", jid, true
    if digest ~= "" then owner[digest] = jid end
    raws[#raws + 1], scores[#scores + 1] = ARGV[i * 3 + 3], ARGV[i * 3 + 2]
  end
end
if #fresh == 0 then return reply end
if ARGV[2] == "list" then scores = nil end
if KEYS[1] ~= K.dead then relock(E, KEYS[1], raws, scores) end
if scores then add_back(KEYS[1], raws, scores) else put_back(KEYS[1], raws) end
redis.call("SADD", KEYS[2], unpack(fresh))
redis.call("EXPIRE", KEYS[2], ARGV[3])
return reply
