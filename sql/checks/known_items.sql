-- Purpose: recommended items that the model does not have.
-- Grain:   one row per item.
-- Parameters:
--   staged       the staged table, in analytics
--   model_items  the model's items, in analytics
-- Columns:
--   item_id  the item
--   n_rows   rows that recommend it
SELECT item_id, count() AS n_rows
FROM analytics.{staged:Identifier}
WHERE item_id NOT IN (SELECT item_id FROM analytics.{model_items:Identifier})
GROUP BY item_id
