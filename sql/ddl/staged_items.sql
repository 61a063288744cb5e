-- Purpose: the items of a model, for the checks.
-- Grain:   one row per item.
-- Parameters:
--   table      its name in analytics
--   item_type  ClickHouse type of the item ids (Int64 or String)
-- Columns:
--   item_id  the item
--   col      column of the item in the model's matrix, from 0
--   hidden   1 if a rule hides the item (analytics.rules), else 0
--   promoted  sources that its rows have where a rule promotes it
--   genres   its genres and series, where a list may hold few items of one; else empty
CREATE TABLE analytics.{table:Identifier}
ORDER BY item_id
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Items of a model; one row an item'
EMPTY AS
SELECT
    CAST('0', {item_type:String}) AS item_id,
    CAST(0, 'UInt32')             AS col,
    CAST(0, 'UInt8')              AS hidden,
    CAST([], 'Array(String)')     AS genres,
    CAST([], 'Array(String)')     AS promoted
