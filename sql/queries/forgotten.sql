-- Purpose: the digests of users who were forgotten.
-- Grain:   a salt and a digest.
-- Columns: at: when first, as text, UTC.
SELECT salt, digest, toString(min(forgotten.at)) AS at
FROM analytics.forgotten AS forgotten
GROUP BY salt, digest
ORDER BY at, digest
