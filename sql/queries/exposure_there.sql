-- Purpose: whether analytics.exposures, or analytics.outcomes, has a row of a log.
-- Grain:   one row.
-- Parameters:
--   table        the table, in analytics
--   log_id, seq  the row
-- Columns:
--   n  rows of that number
SELECT count() AS n
FROM analytics.{table:Identifier}
WHERE log_id = {log_id:String} AND seq = {seq:UInt64}
