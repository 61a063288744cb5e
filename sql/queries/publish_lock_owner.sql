-- Purpose: whose a ticket is, and when it last gave a sign of life.
-- Grain:   one row; none where the ticket is still being written.
-- Parameters:
--   table  the ticket, in analytics
-- Columns: age: seconds since the last sign.
SELECT host, pid, process_started, what, dateDiff('millisecond', at, now64(3)) / 1000 AS age
FROM analytics.{table:Identifier}
ORDER BY at DESC
LIMIT 1
