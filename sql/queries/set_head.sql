-- Purpose: the set that a table holds.
-- Grain:   one row; none if the table is empty.
-- Parameters:
--   table  the table, in analytics
-- Columns:
--   at_ms          when the set was generated, milliseconds since 1970 (UTC); the same in all its rows
--   run_id         run that trained the model
--   model_version  version of the model
SELECT toUnixTimestamp64Milli(generated_at) AS at_ms, toString(run_id) AS run_id, toString(model_version) AS model_version
FROM analytics.{table:Identifier}
LIMIT 1
