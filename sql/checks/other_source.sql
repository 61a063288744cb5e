-- Purpose: the source of the published set's model, if this model was trained on another source. The same ids may mean
--          other users and items there.
-- Grain:   one row, if both sources are known and differ; otherwise none.
-- Parameters:
--   before       the published table, in analytics
--   source_name  the source of this model; empty if unknown
-- Columns:
--   published  the source of the published set's model
--   this       the source of this model
SELECT source_name AS published, {source_name:String} AS this
FROM analytics.publications
WHERE source_name NOT IN ('', {source_name:String})
  AND {source_name:String} != ''
  AND (run_id, generated_at) IN (SELECT toString(run_id), generated_at FROM analytics.{before:Identifier} LIMIT 1)
ORDER BY at DESC
LIMIT 1
