-- Purpose: sets that somebody went back from: kept for a look, and never again the one before.
-- Grain:   a set, by the name it is kept under.
SELECT DISTINCT staged AS name
FROM analytics.publications
WHERE action = 'rolled back'
