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

local function record(state, dirty, version, expiry, owner)
  return state .. dirty .. version .. string.format("%010.0f", math.ceil(expiry)) .. owner
end

local expiries = {} -- of this call, by seconds: formatting one costs as much as the rest of a record
local function running(rec, seconds, lease, jid, holder)
  local expiry = expiries[seconds]
  if not expiry then
    expiry = string.format("%010.0f", math.ceil(NOW + math.max(seconds, lease)))
    expiries[seconds] = expiry
  end
  return "r0" .. (rec and rec:sub(3, 8) or "------") .. expiry .. jid .. "|" .. holder
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
