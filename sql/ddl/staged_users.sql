-- Purpose: the users of a model, with what its artifact has as seen, for the checks.
-- Grain:   a user.
-- Parameters:
--   table      its name in analytics
--   user_type  ClickHouse type of the user ids (Int64 or String)
-- Columns: seen: columns of the model's matrix (the staged items table says which item each is).
CREATE TABLE analytics.{table:Identifier}
ORDER BY user_id
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Users of a model; one row a user'
EMPTY AS
SELECT
    CAST('0', {user_type:String})  AS user_id,
    CAST([], 'Array(UInt32)')      AS seen
