-- Purpose: staged tables with the job that began them, for telling a dead one's from a running one's.
-- Grain:   a staged table that was not refused by a check (those are kept a day, for a look).
-- Parameters:
--   host  the machine whose processes can be looked up
SELECT name, any(log.pid) AS pid, any(log.process_started) AS process_started
FROM system.tables AS tables
CROSS JOIN (SELECT staged, pid, process_started FROM analytics.publications WHERE action = 'started' AND host = {host:String}) AS log
WHERE tables.database = 'analytics'
  AND startsWith(tables.name, 'recommendations_staged_')
  AND startsWith(tables.name, log.staged)
  AND log.staged NOT IN (SELECT staged FROM analytics.publications WHERE action = 'refused')
GROUP BY name
