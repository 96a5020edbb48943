-- ARGV: ms of the lease, connection, value or an empty string without a user
-- Returns 1 if the user was not there before, and the user's connections now.
local lease_ms, connection, value = unpack(ARGV)
local user = value ~= '' and owner(value)
local is_first = user and redis.call('HEXISTS', users, user) == 0
put(connection, value, lease_ms)
keep()
return {is_first and 1 or 0, user and living(user) or 0}
