-- Purpose: recommended items that a rule hides (analytics.rules), by the rules when the set is about to be published.
-- Grain:   one row per item.
-- Parameters:
--   staged       the staged table, in analytics
--   model_items  the model's items and whether a rule hides them, in analytics
-- Columns:
--   item_id  the item
--   n_rows   rows that recommend it
SELECT item_id, count() AS n_rows
FROM analytics.{staged:Identifier}
WHERE item_id IN (SELECT item_id FROM analytics.{model_items:Identifier} WHERE hidden)
GROUP BY item_id
