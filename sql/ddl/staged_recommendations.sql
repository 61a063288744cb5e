-- Purpose: the table of one batch of recommendations; it is filled and checked before anyone reads it.
-- Grain:   one row per user and rank.
-- Parameters:
--   table      its name in analytics
--   user_type  ClickHouse type of the user ids (Int64 or String)
--   item_type  ClickHouse type of the item ids (Int64 or String)
-- Columns:
--   user_id        the user
--   rank           from 1, best first
--   item_id        the item
--   score          in the units of the matrix (stars, if nothing was transformed)
--   source         what ranked the row: the model's name (nmf, …), or popular for the fallback list
--   model_version  version of the model
--   run_id         run that trained it
--   generated_at   when the batch was generated, UTC, milliseconds
-- Settings: with the window the table recognises the token of an insert. An insert that is sent again, because it is
--           unknown whether it arrived, then adds its rows once. Plain MergeTree ignores tokens without a window.
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
