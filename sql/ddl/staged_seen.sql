-- Purpose: what the warehouse has as seen when a batch begins: scoring leaves it out, and the checks look at the same.
-- Grain:   a user and an item.
-- Parameters:
--   table      its name in analytics
--   user_type  ClickHouse type of the user ids (Int64 or String)
--   item_type  ClickHouse type of the item ids (Int64 or String)
CREATE TABLE analytics.{table:Identifier}
ORDER BY (user_id, item_id)
COMMENT 'What is seen, as it was when a batch began; one row a user and an item'
EMPTY AS
SELECT
    CAST('0', {user_type:String}) AS user_id,
    CAST('0', {item_type:String}) AS item_id
