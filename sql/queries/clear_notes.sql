-- Purpose: take user ids out of the notes of analytics.publications that show one of these users.
-- Parameters:
--   salt, digests  the users: sha256 of the salt and the id as text, hexadecimal
-- All ids of such a note go: the text of the mutation, which the engine keeps, must not name the one.
ALTER TABLE analytics.publications
UPDATE note = replaceRegexpAll(note, 'user_id=.*?( [a-z_]+=|; | …|\\)|$)', 'user_id=–\\1')
WHERE arrayExists(
    user -> lower(hex(SHA256(concat({salt:String}, user)))) IN {digests:Array(String)},
    extractAll(note, 'user_id=(.*?)(?: [a-z_]+=|; | …|\\)|$)')
)
