-- Purpose: rows with another version, run or time than this batch.
-- Grain:   one row per version, run and time.
-- Parameters:
--   staged         the staged table, in analytics
--   model_version  the version that every row must have
--   run_id         the run that every row must have
--   at_ms          the time that every row must have, milliseconds since 1970 (UTC)
-- Columns:
--   model_version, run_id, generated_at  the values of the rows; generated_at in UTC
--   n_rows                               rows with these values
SELECT model_version, run_id, generated_at, count() AS n_rows
FROM analytics.{staged:Identifier}
WHERE model_version != {model_version:String}
   OR run_id != {run_id:String}
   OR toUnixTimestamp64Milli(generated_at) != {at_ms:Int64}
GROUP BY model_version, run_id, generated_at
