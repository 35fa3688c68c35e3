-- mark: note that a release was deployed in this minute; the first label of a minute stays.
--
-- KEYS[1] hash of the day's marks   [2] the label's own key
-- ARGV[1] the minute   [2] label   [3] seconds that marks are kept   [4] seconds within which a label is marked once
-- returns 1; 0 if this label was marked a moment ago
--
-- Why a script: every process of a deploy may say so, at once.
--
-- include:
if not redis.call("SET", KEYS[2], ARGV[1], "NX", "EX", ARGV[4]) then return 0 end
redis.call("HSETNX", KEYS[1], ARGV[1], ARGV[2])
redis.call("EXPIRE", KEYS[1], ARGV[3])
return 1
