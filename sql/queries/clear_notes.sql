-- Purpose: remove user ids from the notes of analytics.publications that mention one of these users.
-- Parameters:
--   salt     salt of the digests
--   digests  the users: sha256 of the salt and the id as text, hexadecimal
-- All ids of such a note are removed. The engine keeps the text of the mutation, so it must not name a user.
ALTER TABLE analytics.publications
UPDATE note = replaceRegexpAll(note, 'user_id=.*?( [a-z_]+=|; | …|\\)|$)', 'user_id=–\\1')
WHERE arrayExists(
    user -> lower(hex(SHA256(concat({salt:String}, user)))) IN {digests:Array(String)},
    extractAll(note, 'user_id=(.*?)(?: [a-z_]+=|; | …|\\)|$)')
)
