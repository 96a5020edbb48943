-- Numbers, stores and publishes in one step. What Redis may refuse comes first: once a script has
-- changed something, even a full server takes the rest.
--
-- KEYS: meta HASH (epoch, offset, life, floor: the last offset of the epoch before), stream STREAM (ids are <offset>-0),
--       uses HASH (idempotency key -> offset), times ZSET (idempotency key by the end of its time)
-- ARGV: PUBLISH or SPUBLISH, channel, payload, marker, epoch for a new history, size, ms to live of the stream, and of
--       meta, and with an idempotency key: the key, ms to remember it, keys to remember
-- Returns the epoch, the offset, and 1 if the key was used before.
local meta, stream, uses, times = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local publish, channel, payload, marker, candidate, size, stream_ms, meta_ms, key, key_ms, most = unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000 -- with its microseconds, so that keys are in the order of their use

local function precise(milliseconds)
  return string.format('%.3f', milliseconds)
end

local function keep(name, milliseconds)
  if redis.call('PTTL', name) < tonumber(milliseconds) then redis.call('PEXPIRE', name, milliseconds) end
end

local function oldest_out(names)
  for _, name in ipairs(names) do
    redis.call('HDEL', uses, name)
    redis.call('ZREM', times, name)
  end
end

local epoch, known = unpack(redis.call('HMGET', meta, 'epoch', 'life'))
if not epoch then
  epoch = candidate
  redis.call('HSET', meta, 'epoch', epoch, 'offset', 0, 'life', life)
  redis.call('DEL', stream, uses, times)
elseif known ~= life then -- what was acknowledged last may be lost, and its offsets given again
  epoch = candidate
  redis.call('HSET', meta, 'epoch', epoch, 'life', life, 'floor', redis.call('HGET', meta, 'offset'))
end

if key then
  local offset, ends = redis.call('HGET', uses, key), redis.call('ZSCORE', times, key)
  if offset and ends and tonumber(ends) > now then
    keep(meta, meta_ms)
    return {epoch, offset, 1}
  end
end

local offset = string.format('%.0f', redis.call('HGET', meta, 'offset') + 1)
redis.call('XADD', stream, 'MAXLEN', size, offset .. '-0', 'p', payload)
redis.call('HSET', meta, 'offset', offset)
redis.call('PEXPIRE', stream, stream_ms)
keep(meta, meta_ms)
if key then
  oldest_out(redis.call('ZRANGEBYSCORE', times, '-inf', precise(now)))
  redis.call('HSET', uses, key, offset)
  redis.call('ZADD', times, precise(now + key_ms), key)
  local surplus = redis.call('ZCARD', times) - most
  if surplus > 0 then oldest_out(redis.call('ZRANGE', times, 0, surplus - 1)) end
  keep(uses, key_ms)
  keep(times, key_ms)
end
redis.call(publish, channel, marker .. epoch .. ':' .. offset .. '\n' .. payload)
return {epoch, offset, 0}
