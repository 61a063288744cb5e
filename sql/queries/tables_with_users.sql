-- Purpose: every table of raw and analytics that has a column of users.
-- Grain:   a table; Rankline's first, and of these the published ones first.
-- Parameters:
--   tables  the tables of all published sets of all models, in analytics
-- Columns: ours: 1 where its rows are Rankline's to delete (the raw tables, the mart, published and staged sets).
SELECT
    tables.database AS database,
    tables.name     AS name,
    tables.engine   AS engine,
    toUInt8(
        (tables.database = 'raw' AND tables.name IN ('users', 'ratings', 'watched_movies'))
        OR (tables.database = 'analytics' AND tables.name IN ('mart_user_movie_matrix', 'exposures', 'outcomes'))
        OR (tables.database = 'analytics' AND tables.name IN {tables:Array(String)})
        OR (tables.database = 'analytics' AND match(
            tables.name, '^recommendations_([a-z][a-z0-9_]*_)?(published|staged)_[0-9]+T[0-9]+_[0-9A-Za-z]+(_seen|_users|_items)?$'
            || '|^recommendations_([a-z][a-z0-9_]*_)?moving_[0-9a-f]+_[0-9]+'
        ))
    )               AS ours
FROM system.tables AS tables
WHERE tables.database IN ('raw', 'analytics')
  AND NOT tables.is_temporary
  AND (tables.database, tables.name) IN (
      SELECT database, table FROM system.columns WHERE database IN ('raw', 'analytics') AND name = 'user_id'
  )
ORDER BY ours DESC, startsWith(name, 'recommendations') DESC, database, name
