-- Reads a part of a history in one step.
--
-- KEYS: as append.lua
-- ARGV: epoch for a new history, ms to live of meta, epoch and offset of since or two empty strings,
--       the most publications or -1, 1 for from the newest to the oldest
-- Returns the epoch, the last offset, 1 if nothing is missing, the entries of the stream, and the last offset that is
-- of the epoch before.
local meta, stream, uses, times = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local candidate, meta_ms, since_epoch, since_offset, limit, reverse = unpack(ARGV)

local epoch, top, known, floor = unpack(redis.call('HMGET', meta, 'epoch', 'offset', 'life', 'floor'))
floor = floor or '0'
if not epoch then
  epoch, top, floor = candidate, '0', '0'
  redis.call('HSET', meta, 'epoch', epoch, 'offset', top, 'life', life)
  redis.call('DEL', stream, uses, times)
elseif known ~= life then
  epoch, floor = candidate, top
  redis.call('HSET', meta, 'epoch', epoch, 'life', life, 'floor', floor)
end
if redis.call('PTTL', meta) < tonumber(meta_ms) then redis.call('PEXPIRE', meta, meta_ms) end

local function range(command, from, to)
  if limit == '-1' then return redis.call(command, stream, from, to) end
  if limit == '0' then return {} end
  return redis.call(command, stream, from, to, 'COUNT', limit)
end

local function is_kept(offset)
  return #redis.call('XRANGE', stream, offset .. '-0', offset .. '-0') == 1
end

if since_epoch == '' then
  return {epoch, top, 1, reverse == '1' and range('XREVRANGE', '+', '-') or range('XRANGE', '-', '+'), floor}
end

local since = tonumber(since_offset)
if since_epoch ~= epoch or since > tonumber(top) then return {epoch, top, 0, {}, floor} end
local id = string.format('(%.0f-0', since)
if reverse == '1' then
  -- Before 0 is nothing, which Redis calls wrong.
  return {epoch, top, 1, since > 0 and range('XREVRANGE', id, '-') or {}, floor}
end
if since == tonumber(top) then return {epoch, top, 1, {}, floor} end
if not is_kept(string.format('%.0f', since + 1)) then return {epoch, top, 0, {}, floor} end
return {epoch, top, 1, range('XRANGE', id, '+'), floor}
