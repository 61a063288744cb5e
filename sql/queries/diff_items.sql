-- Purpose: items that are in more lists, or in fewer lists, of one set than of another.
-- Grain:   one row per item, for the n items that gained most lists and the n that lost most.
-- Parameters:
--   a, b  the tables before and after, in analytics
--   n     number of items of each kind
-- Columns:
--   item_id   the item, as text
--   n_before  lists that have it in a
--   n_after   lists that have it in b
--   change    n_after − n_before
WITH counts AS
(
    SELECT item_id, toInt64(sum(before)) AS n_before, toInt64(sum(after)) AS n_after, n_after - n_before AS change
    FROM
    (
        SELECT toString(item_id) AS item_id, 1 AS before, 0 AS after FROM analytics.{a:Identifier}
        UNION ALL
        SELECT toString(item_id) AS item_id, 0 AS before, 1 AS after FROM analytics.{b:Identifier}
    )
    GROUP BY item_id
)
SELECT item_id, n_before, n_after, change
FROM
(
    SELECT * FROM counts WHERE change > 0 ORDER BY change DESC, item_id LIMIT {n:UInt32}
    UNION ALL
    SELECT * FROM counts WHERE change < 0 ORDER BY change, item_id LIMIT {n:UInt32}
)
ORDER BY change DESC, item_id
