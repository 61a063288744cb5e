-- Purpose: staged tables and those beside them, with the job that began them: what a dead one left is told from a
--          running one's, and from a table of somebody's own, which has another kind of name.
-- Grain:   a table of analytics.
-- Parameters:
--   sets   what the names of a model's tables begin with: recommendations, or recommendations_NAME
--   hours  after so long without a new row a table is stale
-- Columns: begun: whether the log says who began it; refused: by a check (it is kept a day, for a look); stale.
SELECT
    tables.name                                             AS name,
    log.staged != ''                                        AS begun,
    log.host                                                AS host,
    log.pid                                                 AS pid,
    log.process_started                                     AS process_started,
    log.refused                                             AS refused,
    greatest(tables.metadata_modification_time, parts.written) < now() - toIntervalHour({hours:UInt32}) AS stale
FROM
(
    SELECT name, metadata_modification_time, replaceRegexpOne(name, '_(seen|users|items)$', '') AS staged
    FROM system.tables
    WHERE database = 'analytics'
      AND match(name, concat('^', {sets:String}, '_staged_[0-9]+T[0-9]+_[0-9A-Za-z]+(_seen|_users|_items)?$'))
) AS tables
LEFT JOIN
(
    SELECT
        staged,
        anyIf(host, action = 'started')             AS host,
        anyIf(pid, action = 'started')              AS pid,
        anyIf(process_started, action = 'started')  AS process_started,
        max(action = 'refused')                     AS refused
    FROM analytics.publications
    WHERE action IN ('started', 'refused')
    GROUP BY staged
) AS log ON log.staged = tables.staged
LEFT JOIN
(
    SELECT table, max(modification_time) AS written FROM system.parts WHERE database = 'analytics' GROUP BY table
) AS parts ON parts.table = tables.name
