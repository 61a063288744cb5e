-- Purpose: lists with more promoted items than their rule allows, or with items as promoted that no rule promotes.
-- Grain:   one row per user and source.
-- Parameters:
--   staged       the staged table, in analytics
--   model_items  the model's items with the sources that promote them, in analytics
--   promoted     sources of promotions when the batch began
--   quotas       how many items of each a list may hold, in the order of `promoted`
-- Columns:
--   user_id      the user
--   promoted_by  the source
--   n_items      items in the list from this source
--   n_wrong      of these, items that this source does not promote
SELECT listed.user_id AS user_id, listed.source AS promoted_by, count() AS n_items, countIf(NOT has(items.promoted, source)) AS n_wrong
FROM analytics.{staged:Identifier} AS listed
INNER JOIN analytics.{model_items:Identifier} AS items ON items.item_id = listed.item_id
WHERE has({promoted:Array(String)}, listed.source)
GROUP BY user_id, promoted_by
HAVING n_wrong > 0 OR n_items > {quotas:Array(UInt32)}[indexOf({promoted:Array(String)}, promoted_by)]
