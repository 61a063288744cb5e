-- Purpose: the rows of a table but those of these users, into another.
-- Parameters:
--   table, scratch  from and to, in analytics
--   salt, digests   the users: sha256 of the salt and the id as text, hexadecimal
INSERT INTO analytics.{scratch:Identifier}
SELECT *
FROM analytics.{table:Identifier}
WHERE lower(hex(SHA256(concat({salt:String}, toString(user_id))))) NOT IN {digests:Array(String)}
