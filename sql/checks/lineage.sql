-- Purpose: rows that say another version, run or time than this batch's.
-- Grain:   a version, run and time that are none of ours.
-- Parameters:
--   staged         the staged table, in analytics
--   model_version, run_id, at_ms  what every row must say (at_ms: milliseconds since 1970)
SELECT model_version, run_id, generated_at, count() AS n_rows
FROM analytics.{staged:Identifier}
WHERE model_version != {model_version:String}
   OR run_id != {run_id:String}
   OR toUnixTimestamp64Milli(generated_at) != {at_ms:Int64}
GROUP BY model_version, run_id, generated_at
