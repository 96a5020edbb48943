-- Returns the connections whose lease has ended, and connections and values of all.
return {ended(), redis.call('HGETALL', members)}
