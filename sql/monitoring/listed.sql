-- Purpose: how much of the catalogue a published set shows.
-- Grain:   one row.
-- Parameters:
--   table  the set, in analytics
-- Columns:
--   n_items  items that are in a list
SELECT uniqExact(item_id) AS n_items
FROM analytics.{table:Identifier}
