-- Goes in front of the scripts of presence: who is in one channel, connections with leases and the users behind them.
-- A user comes with the first connection and goes with the last one. A connection whose lease has ended is neither
-- listed nor counted, but its user has not gone before `leave` or `refresh` has said so.
--
-- KEYS: members HASH (connection -> <bytes of the user>:<user><JSON>), for connections of users only,
--       leases ZSET (connection by the end of its lease in ms), users HASH (user -> connections)
local members, leases, users = KEYS[1], KEYS[2], KEYS[3]
local LINGER_MS = 60000 -- for which the keys stay after the last lease, so that somebody can learn who is gone
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function owner(value)
  local length, start = string.match(value, '^(%d+):()')
  return string.sub(value, start, start + length - 1)
end

local function ended()
  return redis.call('ZRANGEBYSCORE', leases, '-inf', now)
end

local function take_out(connection)
  redis.call('ZREM', leases, connection)
  local value = redis.call('HGET', members, connection)
  if not value then return nil end
  redis.call('HDEL', members, connection)
  local user = owner(value)
  if redis.call('HINCRBY', users, user, -1) <= 0 then redis.call('HDEL', users, user) end
  return user
end

local function put(connection, value, lease_ms)
  if (redis.call('HGET', members, connection) or '') ~= value then
    take_out(connection)
    if value ~= '' then
      redis.call('HSET', members, connection, value)
      redis.call('HINCRBY', users, owner(value), 1)
    end
  end
  redis.call('ZADD', leases, now + lease_ms, connection)
end

local function ended_of(user)
  local found = {}
  for _, connection in ipairs(ended()) do
    local value = redis.call('HGET', members, connection)
    if value and owner(value) == user then found[#found + 1] = connection end
  end
  return found
end

local function living(user)
  return (redis.call('HGET', users, user) or 0) - #ended_of(user)
end

local function keep()
  local last = redis.call('ZRANGE', leases, -1, -1, 'WITHSCORES')
  if not last[2] then return end
  for _, key in ipairs(KEYS) do redis.call('PEXPIREAT', key, string.format('%.0f', last[2] + LINGER_MS)) end
end

