-- Purpose: a ticket of one who wants to move published tables; alone among its like, it is the lock.
-- Grain:   a sign of life; the newest counts.
-- Parameters:
--   table, host, pid, process_started, what  whose it is, and what for
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
