-- Purpose: the tables of raw and analytics, for a look at what is there.
-- Grain:   a table.
-- Columns: n_rows: 0 where the engine does not count; hours: since its definition was last changed.
SELECT
    concat(database, '.', name) AS name,
    engine,
    toUInt64(ifNull(total_rows, 0)) AS n_rows,
    dateDiff('second', metadata_modification_time, now()) / 3600 AS hours
FROM system.tables
WHERE database IN ('raw', 'analytics')
ORDER BY name
