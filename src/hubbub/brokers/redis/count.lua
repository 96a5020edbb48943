-- Returns the connections and the users who have one.
local gone, away = ended(), {}
for _, connection in ipairs(gone) do
  local value = redis.call('HGET', members, connection)
  if value then away[owner(value)] = (away[owner(value)] or 0) + 1 end
end
local present = redis.call('HLEN', users)
for user, connections in pairs(away) do
  if tonumber(redis.call('HGET', users, user) or 0) <= connections then present = present - 1 end
end
return {redis.call('ZCARD', leases) - #gone, present}
