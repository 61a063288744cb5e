-- Purpose: the scores of a published set beside those of the set before.
-- Grain:   one row per bucket of scores that has a row, at most ten; 0 has the lowest scores.
-- Parameters:
--   table, before  the two sets, in analytics
--   source         rows of this source alone: the model's name
-- Columns:
--   bucket     0–9
--   reference  rows of the counted half of the set before
--   current    rows of the set
-- Users are halved by a hash: the rows of one half of the set before cut the buckets at their deciles (estimated from
-- 8,192 rows that a hash chooses), those of the other half are counted.
WITH
    (
        SELECT quantilesDeterministic(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)(score, cityHash64(user_id, rank))
        FROM analytics.{before:Identifier}
        WHERE source = {source:String} AND cityHash64(user_id) % 2 = 0
    ) AS edges
SELECT bucket, countIf(is_before) AS reference, countIf(NOT is_before) AS current
FROM
(
    SELECT toUInt8(arrayCount(edge -> score > edge, edges)) AS bucket, true AS is_before
    FROM analytics.{before:Identifier}
    WHERE source = {source:String} AND cityHash64(user_id) % 2 = 1
    UNION ALL
    SELECT toUInt8(arrayCount(edge -> score > edge, edges)) AS bucket, false AS is_before
    FROM analytics.{table:Identifier}
    WHERE source = {source:String}
)
GROUP BY bucket
ORDER BY bucket
