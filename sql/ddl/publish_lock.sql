-- Purpose: a ticket of a job that wants to move published tables. The job has the lock if its ticket is the only one.
-- Grain:   one row per sign of life; the newest row counts.
-- Parameters:
--   table            the ticket, in analytics
--   host             machine of the job
--   pid              process id of the job
--   process_started  start of that process, which tells it from a later process with the same id
--   what             what the job wants to do
-- Columns: at: time of the sign of life, UTC, milliseconds; the others as the parameters.
CREATE TABLE analytics.{table:Identifier}
ORDER BY at
COMMENT 'A job that moves published tables; it may be dropped once its newest row is old'
AS
SELECT
    now64(3)                    AS at,
    {host:String}               AS host,
    {pid:UInt32}                AS pid,
    {process_started:String}    AS process_started,
    {what:String}               AS what
