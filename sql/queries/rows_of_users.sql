-- Purpose: number of rows that a table has of these users.
-- Grain:   one row.
-- Parameters:
--   database, table  the table
--   salt             salt of the digests
--   digests          the users: sha256 of the salt and the id as text, hexadecimal
-- Columns:
--   n  rows
SELECT count() AS n
FROM {database:Identifier}.{table:Identifier}
WHERE user_id IN (
    SELECT user_id
    FROM (SELECT DISTINCT user_id FROM {database:Identifier}.{table:Identifier})
    WHERE lower(hex(SHA256(concat({salt:String}, toString(user_id))))) IN {digests:Array(String)}
)
