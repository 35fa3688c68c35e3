-- Keep the locks of these jobs in the new generation: the same jid's record with a fresh window; absent in both
-- generations, a new one; another jid's, nothing.
local function keep(E, raws, scores)
  local jobs, fields, set = {}, {"#"}, {}
  for i, raw in ipairs(raws) do
    local unique, jid = raw:match(HEADER)
    local digest, _, seconds = lock_of(unique or "")
    if digest then
      fields[#fields + 1] = digest
      jobs[#jobs + 1] = {digest, jid, math.max(NOW, tonumber(scores[i] or 0)) + seconds}
    end
  end
  local found = read_locks(E, fields)
  for i, job in ipairs(jobs) do
    local digest, jid, expiry = unpack(job)
    local rec = found[i + 1]
    if not rec then
      rec = record("q", "0", "------", expiry, jid)
    elseif rec:sub(19):match("^[^|]+") == jid then
      rec = rec:sub(1, 8) .. string.format("%010.0f", math.ceil(expiry)) .. rec:sub(19)
    else
      rec = nil
    end
    if rec then
      set[#set + 1] = digest
      set[#set + 1] = rec
    end
  end
  write_locks(E, set, {})
end
