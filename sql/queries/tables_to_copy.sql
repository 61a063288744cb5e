-- Purpose: the tables of raw and analytics that hold rows of their own.
-- Grain:   one row per table.
-- Columns:
--   database, name  the table
SELECT database, name
FROM system.tables
WHERE database IN ('raw', 'analytics')
  AND NOT is_temporary
  AND engine LIKE '%MergeTree'
ORDER BY database, name
