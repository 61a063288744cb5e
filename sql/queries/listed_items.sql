-- Purpose: the items of a published set.
-- Grain:   one row per item, those in most lists first.
-- Parameters:
--   table  the set's table, in analytics
-- Columns:
--   item_id  the item
--   n_rows   rows that recommend it
SELECT item_id, count() AS n_rows
FROM analytics.{table:Identifier}
GROUP BY item_id
ORDER BY n_rows DESC, item_id
