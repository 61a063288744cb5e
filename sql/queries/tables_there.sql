-- Purpose: the tables of raw and analytics.
-- Grain:   one row per table.
-- Columns:
--   name    database.table
--   engine  the table's engine
--   n_rows  rows; 0 if the engine does not count them
--   hours   hours since the definition last changed
SELECT
    concat(database, '.', name) AS name,
    engine,
    toUInt64(ifNull(total_rows, 0)) AS n_rows,
    dateDiff('second', metadata_modification_time, now()) / 3600 AS hours
FROM system.tables
WHERE database IN ('raw', 'analytics')
ORDER BY name
