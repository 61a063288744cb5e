-- Purpose: what the published table holds.
-- Grain:   a model version and run (one row, where nothing is amiss).
-- Parameters:
--   table  the published table, in analytics
SELECT model_version, run_id, max(generated_at) AS generated_at, count() AS n_rows, uniqExact(user_id) AS n_users
FROM analytics.{table:Identifier}
GROUP BY model_version, run_id
ORDER BY generated_at DESC
