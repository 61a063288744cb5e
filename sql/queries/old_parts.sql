-- Purpose: tables of raw and analytics that still have replaced parts on disk, which hold the rows that were deleted.
-- Grain:   one row per table.
-- Columns:
--   name  database.table
SELECT DISTINCT concat(database, '.', table) AS name
FROM system.parts
WHERE database IN ('raw', 'analytics') AND NOT active
ORDER BY name
