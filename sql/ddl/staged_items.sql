-- Purpose: the items of a model, for the checks.
-- Grain:   an item.
-- Parameters:
--   table      its name in analytics
--   item_type  ClickHouse type of the item ids (Int64 or String)
-- Columns: col: its column in the model's matrix.
CREATE TABLE analytics.{table:Identifier}
ORDER BY item_id
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Items of a model; one row an item'
EMPTY AS
SELECT
    CAST('0', {item_type:String}) AS item_id,
    CAST(0, 'UInt32')             AS col
