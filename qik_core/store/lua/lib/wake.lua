-- Wake up to n of the processes that found nothing on a queue and sleep.
local function wake(queue, n)
  for _, identity in ipairs(redis.call("SPOP", K.idle .. queue, n)) do
    local key = K.wake .. identity
    if redis.call("EXISTS", key) == 0 then
      redis.call("LPUSH", key, "1")
      redis.call("PEXPIRE", key, 5000)
    end
  end
end

-- The payload as it stands on a queue: ours get their enqueued_at, always the last field, when they arrive there.
local function stamped(raw, milliseconds)
  local at = milliseconds == "1" and string.format("%.0f", math.floor(NOW * 1000)) or STAMP
  return raw:sub(1, -2) .. ',"enqueued_at":' .. at .. "}"
end
