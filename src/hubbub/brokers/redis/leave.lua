-- ARGV: connection
-- Returns the user if that was the last connection of one.
local user = take_out(ARGV[1])
local is_last = user and living(user) == 0
if is_last then
  for _, connection in ipairs(ended_of(user)) do take_out(connection) end
end
keep()
return is_last and user
