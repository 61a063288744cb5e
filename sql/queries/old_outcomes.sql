-- Purpose: how many outcomes are older than a time.
-- Grain:   one row.
-- Parameters:
--   before  milliseconds since 1970
-- Columns: n
SELECT count() AS n
FROM analytics.outcomes
WHERE at < fromUnixTimestamp64Milli({before:Int64}, 'UTC')
