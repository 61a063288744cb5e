-- Purpose: the owner of a ticket, and when it last gave a sign of life.
-- Grain:   one row; none while the ticket is being written.
-- Parameters:
--   table  the ticket, in analytics
-- Columns:
--   host             machine of the job
--   pid              process id of the job
--   process_started  start of that process
--   what             what the job does
--   age              seconds since the last sign of life
SELECT host, pid, process_started, what, dateDiff('millisecond', at, now64(3)) / 1000 AS age
FROM analytics.{table:Identifier}
ORDER BY at DESC
LIMIT 1
