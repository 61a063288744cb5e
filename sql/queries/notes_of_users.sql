-- Purpose: number of notes of analytics.publications (rows that failed a check) that mention one of these users.
-- Grain:   one row.
-- Parameters:
--   salt     salt of the digests
--   digests  the users: sha256 of the salt and the id as text, hexadecimal
-- Columns:
--   n  notes
SELECT count() AS n
FROM analytics.publications
WHERE arrayExists(
    user -> lower(hex(SHA256(concat({salt:String}, user)))) IN {digests:Array(String)},
    extractAll(note, 'user_id=(.*?)(?: [a-z_]+=|; | …|\\)|$)')
)
