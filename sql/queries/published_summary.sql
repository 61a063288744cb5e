-- Purpose: what the published table holds.
-- Grain:   a model version and run (one row, where nothing is amiss).
SELECT model_version, run_id, max(generated_at) AS generated_at, count() AS n_rows, uniqExact(user_id) AS n_users
FROM analytics.recommendations
GROUP BY model_version, run_id
ORDER BY generated_at DESC
