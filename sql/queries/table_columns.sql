-- Purpose: the columns of a table.
-- Grain:   one row per column, in their order.
-- Parameters:
--   database, table  the table
-- Columns:
--   name, type  of the column
--   key         its place in the table's order, from 1; 0 for a column that the rows are not ordered by
SELECT
    columns.name AS name,
    columns.type AS type,
    indexOf(splitByString(', ', tables.sorting_key), columns.name) AS key
FROM system.columns AS columns
INNER JOIN system.tables AS tables ON tables.database = columns.database AND tables.name = columns.table
WHERE columns.database = {database:String}
  AND columns.table = {table:String}
  AND columns.default_kind NOT IN ('MATERIALIZED', 'ALIAS', 'EPHEMERAL')
ORDER BY columns.position
