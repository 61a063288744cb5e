-- Purpose: staged tables that a job which is long gone left behind.
-- Grain:   a table of analytics.
-- Parameters:
--   hours  untouched for at least so long
SELECT name
FROM system.tables
WHERE database = 'analytics'
  AND startsWith(name, 'recommendations_staged_')
  AND metadata_modification_time < now() - toIntervalHour({hours:UInt32})
