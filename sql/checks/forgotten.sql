-- Purpose: users who were forgotten (rankline forget): a model that was trained before still has them.
-- Grain:   a user, by the digest of their id.
-- Parameters:
--   staged  the staged table, in analytics
SELECT DISTINCT lower(hex(SHA256(concat(salt, toString(user_id))))) AS digest
FROM (SELECT DISTINCT user_id FROM analytics.{staged:Identifier}) AS users
ARRAY JOIN (SELECT groupUniqArray(salt) FROM analytics.forgotten) AS salt
WHERE digest IN (SELECT digest FROM analytics.forgotten)
