-- Purpose: items that a user has more than once.
-- Grain:   a user.
-- Parameters:
--   staged  the staged table, in analytics
SELECT user_id, count() AS n_rows, uniqExact(item_id) AS n_items
FROM analytics.{staged:Identifier}
GROUP BY user_id
HAVING n_items != n_rows
SETTINGS optimize_aggregation_in_order = 1
