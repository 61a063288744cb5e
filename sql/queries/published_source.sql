-- Purpose: the source of the interactions that the model of a published set was trained on.
-- Grain:   one row, if the log says the source; otherwise none.
-- Parameters:
--   table  the published table, in analytics
-- Columns:
--   source_name  the source
SELECT source_name
FROM analytics.publications
WHERE source_name != ''
  AND (run_id, generated_at) IN (SELECT toString(run_id), generated_at FROM analytics.{table:Identifier} LIMIT 1)
ORDER BY at DESC
LIMIT 1
