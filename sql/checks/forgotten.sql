-- Purpose: users in the staged table who were forgotten (rankline forget). A model trained before that still has them.
-- Grain:   one row per user.
-- Parameters:
--   staged  the staged table, in analytics
-- Columns:
--   digest  sha256 of the salt and the user id as text, hexadecimal
SELECT DISTINCT lower(hex(SHA256(concat(salt, toString(user_id))))) AS digest
FROM (SELECT DISTINCT user_id FROM analytics.{staged:Identifier}) AS users
ARRAY JOIN (SELECT groupUniqArray(salt) FROM analytics.forgotten) AS salt
WHERE digest IN (SELECT digest FROM analytics.forgotten)
