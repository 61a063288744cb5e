-- Purpose: how many lists of each experiment are logged, and since when and until when.
-- Grain:   one row per experiment.
-- Columns:
--   experiment        the experiment
--   n                 rows of it
--   oldest_ms, newest_ms  its first and its last row, milliseconds since 1970
SELECT
    experiment,
    count()                            AS n,
    toUnixTimestamp64Milli(min(at))    AS oldest_ms,
    toUnixTimestamp64Milli(max(at))    AS newest_ms
FROM analytics.exposures
GROUP BY experiment
ORDER BY experiment
