-- Purpose: how many notes of analytics.publications show one of these users (rows that failed a check).
-- Grain:   one row.
-- Parameters:
--   salt, digests  the users: sha256 of the salt and the id as text, hexadecimal
SELECT count() AS n
FROM analytics.publications
WHERE arrayExists(
    user -> lower(hex(SHA256(concat({salt:String}, user)))) IN {digests:Array(String)},
    extractAll(note, 'user_id=(.*?)(?: [a-z_]+=|; | …|\\)|$)')
)
