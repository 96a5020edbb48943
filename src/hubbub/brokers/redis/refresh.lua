-- ARGV: ms of the lease, and connection and value for each entry
-- Returns the users who are gone with the leases that have ended.
for i = 2, #ARGV, 2 do put(ARGV[i], ARGV[i + 1], ARGV[1]) end
local departed = {}
for _, connection in ipairs(ended()) do
  local user = take_out(connection)
  if user and redis.call('HEXISTS', users, user) == 0 then departed[#departed + 1] = user end
end
keep()
return departed
