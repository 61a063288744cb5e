-- Purpose: tables of raw and analytics whose replaced parts, with the rows that were deleted, are still on disk.
-- Grain:   a table.
SELECT DISTINCT concat(database, '.', table) AS name
FROM system.parts
WHERE database IN ('raw', 'analytics') AND NOT active
ORDER BY name
