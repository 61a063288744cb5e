-- Purpose: the bucket of users in an experiment, as pipeline/experiments/assignment.py computes it.
-- Grain:   one row per row of the table of users.
-- Parameters:
--   users  a table with a column user_id, in the current database
--   salt   the salt of the experiment
-- Columns:
--   user_id  the user, as text
--   bucket   from 0 to 9,999: the first 8 bytes of the SHA-256 of salt, colon and id, as a big-endian number
SELECT
    toString(user_id) AS user_id,
    toUInt16(reinterpretAsUInt64(reverse(substring(
        SHA256(concat({salt:String}, ':', toString(user_id))), 1, 8))) % 10000) AS bucket
FROM {users:Identifier}
