-- Purpose: the tickets of those who want to move the published sets of a model.
-- Grain:   a table of analytics.
-- Parameters:
--   tickets  what their names begin with; the rest of a name has no _, so that another model's ticket is none of these
-- Columns: age: seconds since it was made.
SELECT name, dateDiff('second', metadata_modification_time, now()) AS age
FROM system.tables
WHERE database = 'analytics'
  AND startsWith(name, {tickets:String})
  AND position(substring(name, length({tickets:String}) + 1), '_') = 0
