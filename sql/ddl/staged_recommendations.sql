-- Purpose: a table for one batch of recommendations, filled and checked before anyone reads it.
-- Grain:   a user and a rank.
-- Parameters:
--   table      its name in analytics
--   user_type  ClickHouse type of the user ids (Int64 or String)
--   item_type  ClickHouse type of the item ids (Int64 or String)
-- Columns: rank from 1, best first; score in the units of the matrix (stars, where nothing was transformed);
--          source: who ranked (nmf, popular); model_version and run_id: lineage; generated_at: when, UTC.
-- Settings: a window for insert tokens, which do nothing on plain MergeTree without one: an insert that is
--          sent again, because nobody knows whether it arrived, leaves its rows once.
CREATE TABLE analytics.{table:Identifier}
ORDER BY (user_id, rank)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Recommendations, best first; one row a user and a rank'
EMPTY AS
SELECT
    CAST('0', {user_type:String})          AS user_id,
    CAST(1, 'UInt16')                      AS rank,
    CAST('0', {item_type:String})          AS item_id,
    CAST(0, 'Float32')                     AS score,
    CAST('nmf', 'LowCardinality(String)')  AS source,
    CAST('', 'LowCardinality(String)')     AS model_version,
    CAST('', 'LowCardinality(String)')     AS run_id,
    CAST(0, 'DateTime64(3, \'UTC\')')      AS generated_at
