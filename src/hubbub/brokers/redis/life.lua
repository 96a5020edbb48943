-- Goes in front of the scripts of histories: what names the life that the server is in.
--
-- A server that has started with what was saved, or has taken over from another one, may lack what was acknowledged
-- last, and would give the same offsets again. It has another replication id then, whatever role it has had before. So
-- a history whose last use was in another life begins a new epoch. Being asked here, in the same step, the id is right
-- for every caller, and no two of them can disagree.
local life = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or ''

