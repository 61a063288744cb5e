-- Purpose: the set that a table holds.
-- Grain:   one row; none if the table is empty.
-- Parameters:
--   table  the table, in analytics
-- Columns:
--   at_ms          when the set was generated, milliseconds since 1970 (UTC); the same in all its rows
--   run_id         run that trained the model; of two versions, where an experiment made the set, the first
--   model_version  version of the model of that run
--   run_ids        all runs
SELECT
    any(toUnixTimestamp64Milli(generated_at))             AS at_ms,
    min(toString(set.run_id))                             AS run_id,
    argMin(toString(set.model_version), toString(set.run_id)) AS model_version,
    groupUniqArray(toString(set.run_id))                  AS run_ids
FROM analytics.{table:Identifier} AS set
HAVING count() > 0
