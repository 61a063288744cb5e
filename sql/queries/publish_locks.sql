-- Purpose: the tickets of those who want to move published tables.
-- Grain:   a table of analytics.
-- Columns: age: seconds since it was made.
SELECT name, dateDiff('second', metadata_modification_time, now()) AS age
FROM system.tables
WHERE database = 'analytics' AND startsWith(name, 'publish_lock_')
