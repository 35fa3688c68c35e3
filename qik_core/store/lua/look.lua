-- look: which epoch is this?
--
-- KEYS    none
-- ARGV[1] candidate epoch
-- returns epoch, time
--
-- Why a script: an epoch that is missing, or whose hash of locks is gone, is replaced in the same step.
--
-- include: epoch locks
redis.call("DEL", K.never)
local E = open_epoch(ARGV[1])
read_locks(E, {"#"})
return {E.text, STAMP}
