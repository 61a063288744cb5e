-- Purpose: the tables of events that take the log and the number of what is shipped into them.
-- Grain:   one row per table.
-- Columns:
--   name  name in raw
SELECT columns.table AS name
FROM system.columns AS columns
WHERE columns.database = 'raw'
  AND columns.table IN ('ratings', 'watched_movies')
  AND (columns.name, columns.default_kind) IN (
      ('sent_log_id', 'EPHEMERAL'), ('sent_seq', 'EPHEMERAL'), ('log_id', 'MATERIALIZED'), ('seq', 'MATERIALIZED')
  )
GROUP BY columns.table
HAVING count() = 4
