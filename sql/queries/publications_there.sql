-- Purpose: what tells the events in the log of publications apart.
-- Grain:   one row per event.
-- Columns:
--   at_ms    when, milliseconds since 1970 (UTC)
--   action   what happened
--   staged   the table that it happened to
SELECT toUnixTimestamp64Milli(at) AS at_ms, toString(action) AS action, staged
FROM analytics.publications
