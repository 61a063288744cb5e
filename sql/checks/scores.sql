-- Purpose: users whose scores are not finite, or do not fall (equal ones in the order of ids) from rank to rank.
-- Grain:   a user.
-- Parameters:
--   staged  the staged table, in analytics
-- Columns: scores: by rank.
WITH lists AS
(
    SELECT
        user_id,
        arraySort(groupArray((rank, -score, item_id)))        AS by_rank,
        arraySort(row -> (row.2, row.3), by_rank)              AS by_score,
        countIf(NOT isFinite(score))                           AS n_not_finite
    FROM analytics.{staged:Identifier}
    GROUP BY user_id
)
SELECT user_id, arrayMap(row -> -row.2, by_rank) AS scores
FROM lists
WHERE n_not_finite > 0 OR by_rank != by_score
SETTINGS optimize_aggregation_in_order = 1
