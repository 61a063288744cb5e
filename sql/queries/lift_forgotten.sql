-- Purpose: take users off the list of those who were forgotten.
-- Parameters:
--   digests  the users: sha256 of the salt and the id as text, hexadecimal
ALTER TABLE analytics.forgotten
DELETE WHERE digest IN {digests:Array(String)}
