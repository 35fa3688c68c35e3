-- flush_file: from now on each step of a flush that keeps a file is noted.
--
-- KEYS[1] qik:flushed:<export> set
-- ARGV    none
-- returns 1
--
-- Why a script: also while Redis is full.
--
-- include: flusher take
redis.call("DEL", K.never)
local wrong = misfit(KEYS[1], "set")
if wrong then return wrong end
note_removed(KEYS[1], {}, {}, false)
return 1
