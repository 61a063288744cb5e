-- Purpose: how popular the items are that users turn to, before and since the champion learned.
-- Grain:   one row per bucket of popularity that has an item, at most ten; 0 has the most popular items.
-- Input:   interactions (user_id, item_id, at_ms): one row per user and item, with the first time
-- Parameters:
--   learned_ms, now_ms  reference: up to the one; current: after it, and up to the other; milliseconds since 1970
-- Columns:
--   bucket     0–9
--   reference  interactions of the counted half of the reference
--   current    interactions since
-- The reference is halved by a hash of user and item. One half cuts the buckets: items in the order of their
-- interactions there, a tenth of these in each bucket. The other half is counted: counted on itself, the cut half would
-- lean. Items without an interaction in the cut half are left out on both sides.
WITH
    items AS
    (
        SELECT
            item_id,
            countIf(at_ms <= {learned_ms:Int64} AND cityHash64(user_id, item_id) % 2 = 0) AS n_cut,
            countIf(at_ms <= {learned_ms:Int64} AND cityHash64(user_id, item_id) % 2 = 1) AS n_counted,
            countIf(at_ms > {learned_ms:Int64})                                           AS n_since
        FROM interactions
        WHERE at_ms <= {now_ms:Int64}
        GROUP BY item_id
        HAVING n_cut > 0
    ),
    placed AS
    (
        SELECT
            n_cut,
            n_counted,
            n_since,
            sum(n_cut) OVER (ORDER BY n_cut DESC, item_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS running,
            sum(n_cut) OVER ()                                                                              AS total
        FROM items
    )
SELECT toUInt8(intDiv(10 * (running - n_cut), total)) AS bucket, sum(n_counted) AS reference, sum(n_since) AS current
FROM placed
GROUP BY bucket
ORDER BY bucket
