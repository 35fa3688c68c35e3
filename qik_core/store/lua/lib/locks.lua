-- The locks of the generation, and of the one a roll is leaving.
-- A record: state(1) dirty(1) version(6) expiry(10) jid, then "|" and a tail. See docs/internals.md.
local HEADER = '^{"qik":"([%w_-]+)","jid":"([%w_-]+)","queue":"([%w_.:-]+)",'

-- fields[1] is "#", which every hash of locks has since the script that made it. Without it somebody deleted the
-- hash: that is a loss like any other.
local function read_locks(E, fields)
  local found = redis.call("HMGET", K.unique .. E.gen, unpack(fields))
  local old = E.prev ~= "-" and redis.call("HMGET", K.unique .. E.prev, unpack(fields))
  if not found[1] or (old and not old[1]) then
    make_epoch(E)
    return {}
  end
  if old then
    for i = 2, #fields do found[i] = found[i] or old[i] end
  end
  return found
end

-- A blob of digests, 22 characters each, as fields to read.
local function fields_of(blob)
  local fields, sub = {"#"}, string.sub
  for i = 1, #blob / 22 do fields[i + 1] = sub(blob, i * 22 - 21, i * 22) end
  return fields
end

-- set: digest, record, digest, record, … ; gone: digests. A roll's old hash keeps only what nobody has touched.
local function write_locks(E, set, gone)
  if #set > 0 then
    redis.call("HSET", K.unique .. E.gen, unpack(set))
    if E.prev ~= "-" then
      for i = 1, #set, 2 do redis.call("HDEL", K.unique .. E.prev, set[i]) end
    end
  end
  if #gone > 0 then
    redis.call("HDEL", K.unique .. E.gen, unpack(gone))
    if E.prev ~= "-" then redis.call("HDEL", K.unique .. E.prev, unpack(gone)) end
  end
end

local expiries = {} -- of this call, by seconds: formatting one costs as much as the rest of a record
local function expiry_text(at)
  local second = math.ceil(at)
  local text = expiries[second] or string.format("%010d", second)
  expiries[second] = text
  return text
end

local function record(state, dirty, version, expiry, owner)
  return state .. dirty .. version .. expiry_text(expiry) .. owner
end

local function running(rec, seconds, lease, jid, holder)
  return record("r", "0", rec and rec:sub(3, 8) or "------", NOW + math.max(seconds, lease), jid .. "|" .. holder)
end

local function is_mine(rec, jid, holder)
  return rec:sub(1, 1) == "r" and rec:sub(19) == jid .. "|" .. holder
end

-- Another job, or another run, holds this key: this copy is one too many.
local function held_elsewhere(rec, jid)
  if rec:byte(1) == 114 then return true end -- r
  if rec:sub(19, 18 + #jid) == jid and (#rec == 18 + #jid or rec:sub(19 + #jid, 19 + #jid) == "|") then return false end
  return tonumber(rec:sub(9, 18)) >= NOW
end

local function lock_of(unique) -- digest, until, seconds of a header's first value; nil without a lock
  if #unique < 24 then return nil end
  return unique:sub(1, 22), unique:sub(23, 23), tonumber(unique:sub(24))
end
