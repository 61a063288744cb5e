-- Purpose: which set a table holds.
-- Grain:   one row; none where the table is empty.
-- Parameters:
--   table  in analytics
-- Columns: at_ms: generated_at, milliseconds since 1970, the same in all rows of a set.
SELECT toUnixTimestamp64Milli(generated_at) AS at_ms, toString(run_id) AS run_id, toString(model_version) AS model_version
FROM analytics.{table:Identifier}
LIMIT 1
