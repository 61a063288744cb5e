-- Purpose: the users of a model with the seen items of its artifact, for the checks.
-- Grain:   one row per user.
-- Parameters:
--   table      its name in analytics
--   user_type  ClickHouse type of the user ids (Int64 or String)
-- Columns:
--   user_id  the user
--   seen     columns of the seen items in the model's matrix, from 0; the staged items table has the item of each
CREATE TABLE analytics.{table:Identifier}
ORDER BY user_id
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Users of a model; one row a user'
EMPTY AS
SELECT
    CAST('0', {user_type:String})  AS user_id,
    CAST([], 'Array(UInt32)')      AS seen
