-- Purpose: users whose ranks are not 1, 2, … n, each once.
-- Grain:   a user.
-- Parameters:
--   staged  the staged table, in analytics
SELECT user_id, count() AS n_rows, min(rank) AS lowest, max(rank) AS highest
FROM analytics.{staged:Identifier}
GROUP BY user_id
HAVING lowest != 1 OR highest != n_rows OR uniqExact(rank) != n_rows
SETTINGS optimize_aggregation_in_order = 1
