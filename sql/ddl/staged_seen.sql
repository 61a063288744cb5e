-- Purpose: the seen items of the warehouse when a batch begins. Scoring leaves them out; the checks use
--          the same rows.
-- Grain:   one row per user and item, or several where the interaction log has it too.
-- Parameters:
--   table      its name in analytics
--   user_type  ClickHouse type of the user ids (Int64 or String)
--   item_type  ClickHouse type of the item ids (Int64 or String)
-- Columns:
--   user_id  the user
--   item_id  an item that the user has seen
CREATE TABLE analytics.{table:Identifier}
ORDER BY (user_id, item_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What is seen, as it was when a batch began; one row a user and an item'
EMPTY AS
SELECT
    CAST('0', {user_type:String}) AS user_id,
    CAST('0', {item_type:String}) AS item_id
