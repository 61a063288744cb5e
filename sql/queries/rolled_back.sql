-- Purpose: sets that a rollback replaced. They are kept for inspection, and no later rollback returns to them.
-- Grain:   one row per set.
-- Columns:
--   name  the table that holds the set, in analytics
SELECT DISTINCT staged AS name
FROM analytics.publications
WHERE action = 'rolled back'
