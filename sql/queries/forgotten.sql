-- Purpose: the digests of the users who were forgotten.
-- Grain:   one row per salt and digest.
-- Columns:
--   salt    salt of the digest
--   digest  sha256 of the salt and the user id as text, hexadecimal
--   at      when the user was first forgotten, UTC, as text
SELECT salt, digest, toString(min(forgotten.at)) AS at
FROM analytics.forgotten AS forgotten
GROUP BY salt, digest
ORDER BY at, digest
