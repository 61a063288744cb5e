-- Purpose: the types of the ids of published sets: sets of other types can't be joined with one another.
-- Grain:   one row per table.
-- Parameters:
--   tables  the tables, in analytics
-- Columns:
--   name       the table
--   user_type  ClickHouse type of user_id
--   item_type  ClickHouse type of item_id
SELECT table AS name, anyIf(type, columns.name = 'user_id') AS user_type, anyIf(type, columns.name = 'item_id') AS item_type
FROM system.columns AS columns
WHERE database = 'analytics' AND table IN {tables:Array(String)} AND columns.name IN ('user_id', 'item_id')
GROUP BY table
